import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { random, scratch, scratchFile } from '../helpers/sources.js';
import { SCENES } from './scenes.js';
import { compileShim, type ShimmedRun } from './shim.js';
import { Stage } from './stage.js';
import { KINDS, type Point, pointsOf } from './sweep.js';

const LINUX = process.platform === 'linux';
const STRACE = LINUX && spawnSync('strace', ['--version']).status === 0;
if (!STRACE) console.warn('\n!!! strace IS MISSING: WHAT THE SHIM SEES IS NOT COMPARED !!!\n');

const staged = SCENES.flatMap((scene) =>
  (scene.native ? [true] : [true, false]).map((addon) => ({ scene, addon })),
);

let shim = '';
beforeAll(() => {
  shim = compileShim(scratch()) ?? '';
});

let made = 0;
const stageOf = ({ scene, addon }: (typeof staged)[number]) =>
  new Stage(scene, join(scratch(), `stage-${made++}`), shim, addon);

/** What the shim calls a system call. */
const NAMES: Readonly<Record<string, string>> = {
  pread64: 'pread',
  pwrite64: 'pwrite',
  fdatasync: 'fsync',
  statx: 'stat',
  copy_file_range: 'copy',
  renameat: 'rename',
  renameat2: 'rename',
  linkat: 'link',
  unlinkat: 'unlink',
};

/** They ask about a descriptor, and change nothing. The last two are of opendir(3). */
const PASSED_OVER = ['fcntl', 'fstatfs', 'fstat', 'fadvise64', 'newfstatat', 'getdents64'];

/** How often the kernel was asked for what, of files beneath the folder and of itself. */
function asked(trace: string, folder: string): Record<string, number> {
  const counts: Record<string, number> = {};
  const about = [`${folder}/`, `<${folder}>`, `"${folder}"`];
  for (const line of readFileSync(trace, 'utf8').split('\n')) {
    const [, call = '', rest = ''] = /^\d+ +(\w+)\((.*)$/.exec(line) ?? [];
    if (call === '' || call === 'execve' || !about.some((word) => rest.includes(word))) continue;
    if (PASSED_OVER.includes(call)) continue;
    if (call === 'ioctl' && !rest.includes('FICLONERANGE')) continue;
    let name = NAMES[call] ?? call;
    if (call === 'ioctl') name = 'clone';
    if (call === 'openat') name = rest.includes('O_CREAT') ? 'create' : 'open';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function seen({ operations }: ShimmedRun): Record<string, number> {
  const counts: Record<string, number> = {};
  const count = (name: string) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  for (const { name } of operations) {
    if (name !== 'opendir') count(name);
    else for (const part of ['open', 'close']) count(part);
  }
  return counts;
}

describe.runIf(STRACE)('the shim sees all that the kernel is asked for', () => {
  test.each(staged.filter(({ scene }) => scene.htab === undefined))(
    '$scene.name, addon: $addon',
    async (which) => {
      const stage = stageOf(which);
      const trace = scratchFile('trace');
      const run = await stage.rehearse(trace);
      expect(seen(run)).toEqual(asked(trace, stage.folder));
    },
  );
});

// Every point of every scene takes minutes: npm run test:faults.
describe.runIf(LINUX)('one operation of each name with each kind of fault', () => {
  const stages: { stage: Stage; points: Point[] }[] = [];
  beforeAll(async () => {
    for (const which of staged) {
      const stage = stageOf(which);
      stages.push({ stage, points: pointsOf((await stage.rehearse()).operations) });
    }
  });

  test.each(KINDS.map(({ name }) => name))(
    '%s',
    async (kind) => {
      const next = random(kind.length);
      const all = stages.flatMap(({ stage, points }) =>
        points.filter((point) => point.kind === kind).map((point) => ({ stage, point })),
      );
      const names = [...new Set(all.map(({ point }) => point.operation.name))];
      let hits = 0;
      for (const name of names) {
        const those = all.filter(({ point }) => point.operation.name === name);
        const one = those[Math.floor(next() * those.length)];
        if (one === undefined) throw new Error('unreachable');
        const { stage, point } = one;
        const { run, wrong } = await stage.try(point.fault);
        expect(wrong, `${stage.scene.name}, ${name}, ${point.fault.at}`).toEqual([]);
        if (run.operations.some(({ hit }) => hit)) hits++;
      }
      expect(hits).toBeGreaterThan(0.7 * names.length);
    },
    300_000,
  );
});
