// Preloaded into a process under test: notes its largest resident set in KiB when it ends.
import { writeFileSync } from 'node:fs';

process.on('exit', () => {
  const file = process.env.SPAPR_HTAB_TEST_PEAK;
  if (file) writeFileSync(file, String(process.resourceUsage().maxRSS));
});
