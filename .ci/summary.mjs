// Prints the closing line of a test run: `N passed, N failed`, with what was skipped.
import { readFileSync } from 'node:fs';

let passed = 0;
let failed = 1;
let skipped = 0;
try {
  const results = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  passed = results.numPassedTests;
  // A file that could not be loaded has no tests that failed.
  const broken = results.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((t) => t.status === 'failed'),
  ).length;
  failed = results.numFailedTests + broken;
  skipped = results.numPendingTests + results.numTodoTests;
} catch (error) {
  console.log(`no test results: ${error.message}`);
}
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
