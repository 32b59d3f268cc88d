// Preloaded into a process under test: notes what it took when it ends.
import { writeFileSync } from 'node:fs';

process.on('exit', () => {
  const file = process.env.SPAPR_HTAB_TEST_COST;
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  const usage = { cpuMs: (userCPUTime + systemCPUTime) / 1000, peakMiB: maxRSS / 1024 };
  if (file) writeFileSync(file, JSON.stringify(usage));
});
