import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { packageChecks } from '../kernel/package-checks.js';
import { replayBackend } from './replay-backend.js';
import { softwareBackend } from './software-backend.js';
import { CHECKS, lacking, runCheck } from './suite.js';

const HOSTS = ['power8', 'power9-radix', 'power9-hash'] as const;

const BACKENDS = [
  ...HOSTS.flatMap((host) => [
    softwareBackend(host, 'documented'),
    softwareBackend(host, 'kernel'),
  ]),
  replayBackend(),
];

describe.each(BACKENDS)('$name', (backend) => {
  for (const check of CHECKS) {
    const reason = lacking(check, backend);
    // What a backend does not have is no failure; the kernel's own run has it all.
    if (reason === undefined) test(check.id, () => runCheck(check, backend));
  }
});

test('every check runs on some backend in memory, or needs the system', () => {
  const unseen = CHECKS.filter((check) => BACKENDS.every((b) => lacking(check, b) !== undefined));
  expect(unseen.filter(({ needs }) => !needs.includes('system'))).toEqual([]);
});

test('docs/htab-fd.md has a line for every check, and for no other', () => {
  const page = readFileSync(new URL('../../docs/htab-fd.md', import.meta.url), 'utf8');
  const named = [...page.matchAll(/^- `([a-z]+\/[a-z0-9-]+)`:/gm)].map(([, id]) => id);
  const checks = [...CHECKS, ...packageChecks].map(({ id }) => id);
  expect(new Set(checks).size).toBe(checks.length);
  expect(named.sort()).toEqual(checks.sort());
});
