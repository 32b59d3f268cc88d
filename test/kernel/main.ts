/** `npm run test:kernel`: the smoke program on a real kernel, on every machine. */
import { fileURLToPath } from 'node:url';
import { MACHINES, runOnKernel } from './machine.js';
import { whatIsMissing } from './programs.js';

const SMOKE = fileURLToPath(new URL('smoke.ts', import.meta.url));

async function main(signal: AbortSignal): Promise<void> {
  const missing = whatIsMissing();
  if (missing !== undefined) throw new Error(`this host lacks programs: ${missing}`);
  for (const machine of MACHINES) {
    const run = await runOnKernel(machine, SMOKE, { signal });
    console.log(`${machine.name}: ${run.stdout.trim()}`);
    console.log(`  up in ${run.bootSeconds} s, ${run.seconds.toFixed(1)} s in all`);
    if (run.status !== 0) {
      console.error(run.stderr);
      process.exitCode = 1;
    }
  }
}

const controller = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => controller.abort(new Error(`received ${signal}`)));
}
main(controller.signal).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
