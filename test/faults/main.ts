// The whole sweep: every operation on a file that each scene makes, with every kind of fault, with and
// without the addon. Prints what was tried, and ends with 1 when anything was wrong.
//
//     npm run test:faults -- [--jobs N] [words of a scene's name]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SCENES, type Scene } from './scenes.js';
import { compileShim } from './shim.js';
import { Stage } from './stage.js';
import { pointsOf, type Swept, sweep } from './sweep.js';

const { values, positionals } = parseArgs({
  options: { jobs: { type: 'string', default: '2' } },
  allowPositionals: true,
});
const wanted = positionals.join(' ');

const work = mkdtempSync(join(tmpdir(), 'spapr-htab-faults-'));
process.once('exit', () => rmSync(work, { recursive: true, force: true }));
const shim = compileShim(work);
if (shim === undefined) throw new Error('operations can be made to fail on Linux only');

/** One after another in each of so many lanes. */
async function sweepScene(scene: Scene, addon: boolean, shim: string): Promise<Swept> {
  const jobs = Number(values.jobs);
  const lanes = await Promise.all(
    Array.from({ length: jobs }, async (_, lane) => {
      const stage = new Stage(scene, join(work, `stage-${lane}`), shim, addon);
      const points = pointsOf((await stage.rehearse()).operations);
      return sweep(
        stage,
        points.filter((_, index) => index % jobs === lane),
      );
    }),
  );
  return lanes.reduce((a, b) => ({
    points: a.points + b.points,
    outcomes: {
      done: a.outcomes.done + b.outcomes.done,
      refused: a.outcomes.refused + b.outcomes.refused,
      killed: a.outcomes.killed + b.outcomes.killed,
    },
    wrong: [...a.wrong, ...b.wrong],
  }));
}

const begun = Date.now();
let points = 0;
let wrong = 0;
for (const scene of SCENES.filter(({ name }) => name.includes(wanted))) {
  for (const addon of scene.native ? [true] : [true, false]) {
    const swept = await sweepScene(scene, addon, shim);
    const { done, refused, killed } = swept.outcomes;
    const where = `${scene.name} (${addon ? 'with' : 'without'} the addon)`;
    console.log(
      `${where}: ${swept.points} points, ${done} done, ${refused} failed, ${killed} killed`,
    );
    for (const words of swept.wrong) console.log(`  WRONG: ${words.trim()}`);
    points += swept.points;
    wrong += swept.wrong.length;
  }
}
const seconds = Math.round((Date.now() - begun) / 1000);
console.log(`${points} points in ${seconds} s, ${wrong} wrong`);
if (wrong > 0) process.exitCode = 1;
