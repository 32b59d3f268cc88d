/** Runs inside: the package's own ways to an HTAB fd, and its commands, on a real kernel. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import {
  adoptHtabFd,
  BlockBatch,
  capture,
  encodeBlock,
  type HtabFd,
  HtabWriteError,
  htabFdOfProcess,
  openHpt,
  openHtabFd,
  receiveHtabFd,
  restore,
} from '../../src/index.js';
import { R, V } from '../fd-conformance/bench.js';
import type { Kvm, Vm } from './vm.js';

const FILES = process.env.SPAPR_HTAB_FILES ?? '.';
const CLI = process.env.SPAPR_HTAB_CLI ?? '';
/** First pass of a Linux guest's table of order 22, as a kernel gave it. */
const GUEST = join(FILES, 'guest.htab');
const ORDER = 22;
const HPTE_BYTES = 16;
/** What the kernel sets in the first doubleword of every entry. */
const SOFTWARE_LOCK = 0x40n;

export interface PackageCheck {
  readonly id: string;
  run(kvm: Kvm): Promise<void>;
}

function newVm(kvm: Kvm, order = ORDER): Vm {
  const { vm } = kvm.createVm();
  assert.ok(vm !== undefined);
  assert.deepEqual(vm.allocate(order), { order });
  return vm;
}

async function dump(fd: HtabFd): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const write = async (bytes: Uint8Array): Promise<void> => {
    pieces.push(Buffer.from(bytes));
  };
  await capture(fd, { write }, { to: 'kernel' });
  return Buffer.concat(pieces);
}

/** Runs a command that has this fd as its number 3. */
async function command(args: readonly string[], fd: number): Promise<Record<string, unknown>> {
  const child = spawn(process.execPath, [CLI, ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe', fd],
  });
  const said = Promise.all(
    [child.stdout, child.stderr].map((s) => text(s as NodeJS.ReadableStream)),
  );
  const [status] = await once(child, 'exit');
  const [out, errors] = await said;
  assert.equal(status, 0, errors);
  return JSON.parse(out ?? '') as Record<string, unknown>;
}

/** A block with one entry, which an fd that is written must take. */
async function put(fd: HtabFd, slot: number): Promise<void> {
  assert.equal(fd.writable, true);
  const entries = Buffer.alloc(HPTE_BYTES);
  entries.writeBigUInt64BE(V(slot), 0);
  entries.writeBigUInt64BE(R(1), 8);
  const bytes = encodeBlock({ index: slot, nInvalid: 0, entries }, fd.descriptor.byteOrder);
  const { blocks, valid } = await fd.apply(new BlockBatch(bytes, fd.descriptor.byteOrder, 1, 0));
  assert.deepEqual([blocks, valid], [1, 1]);
}

/** Slots of the entries that a fresh fd gives, each of which must be what {@link put} has written. */
async function slotsIn(vm: Vm): Promise<number[]> {
  await using reader = await openHtabFd(vm.fd);
  const slots: number[] = [];
  for await (const batch of reader.pass()) {
    for (const { index, nValid, entries } of batch) {
      for (let i = 0; i < nValid; i++) {
        const entry = Buffer.from(entries).subarray(i * HPTE_BYTES);
        assert.equal(entry.readBigUInt64BE(0) & ~SOFTWARE_LOCK, V(index + i));
        assert.equal(entry.readBigUInt64BE(8), R(1));
        slots.push(index + i);
      }
    }
  }
  return slots;
}

const fds = (): number => readdirSync('/proc/self/fd').length;

/** Opens and closes, and drops every other one. */
async function openMany(vm: Vm, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const fd = await openHtabFd(vm.fd, { write: i % 2 === 1 });
    if (i % 4 < 2) await fd.close();
    if (i % 200 === 0) {
      globalThis.gc?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

export const packageChecks: readonly PackageCheck[] = [
  {
    id: 'package/a-guests-table-comes-back-byte-for-byte',
    async run(kvm) {
      const vm = newVm(kvm);
      await using writer = await openHtabFd(vm.fd, { write: true });
      assert.equal(await writer.order(), ORDER);
      const done = await restore(GUEST, writer);
      await using reader = await openHtabFd(vm.fd);
      const bytes = await dump(reader);
      assert.equal(done.bytes, bytes.length);
      assert.ok(bytes.equals(readFileSync(GUEST)));
      vm.close();
    },
  },
  {
    id: 'package/a-snapshots-table-in-a-vm',
    async run(kvm) {
      const snapshot = join(FILES, 'snapshot.mig');
      await using hpt = await openHpt(snapshot);
      const table = await hpt.table();
      const vm = newVm(kvm, table.order);
      await using writer = await openHtabFd(vm.fd, { write: true });
      await restore(snapshot, writer, { canonical: true });
      await using reader = await openHtabFd(vm.fd);
      const path = '/tmp/captured.section';
      const done = await capture(reader, path, { force: true });
      assert.equal(done.order, table.order);
      await using captured = await openHpt(path);
      assert.ok((await captured.table()).equals(table, { ignoreSoftwareBits: true }));
      rmSync(path);
      vm.close();
    },
  },
  {
    id: 'package/100008-entries',
    async run(kvm) {
      // Blocks with gaps, as random as they come, and what a kernel gave for them.
      const vm = newVm(kvm, 24);
      vm.setMemory({ size: 64 << 20, hugePages: true, touch: true });
      await using writer = await openHtabFd(vm.fd, { write: true });
      const blocks = { from: 'kernel', byteOrder: 'little', order: 24 } as const;
      const done = await restore(join(FILES, 'many.written'), writer, blocks);
      assert.deepEqual([done.blocks, done.valid], [6837, 100008]);
      for (const [length, reads, bytes] of [
        [2048, 815, 1660264],
        [65536, 26, 1654560],
        [1 << 20, 2, 1654376],
      ] as const) {
        await using reader = await openHtabFd(vm.fd);
        const pieces: Buffer[] = [];
        for await (const batch of reader.pass({ bufferBytes: length })) {
          pieces.push(Buffer.from(batch.bytes));
        }
        const dumped = Buffer.concat(pieces);
        assert.deepEqual([length, pieces.length, dumped.length], [length, reads, bytes]);
        if (length === 65536) continue;
        assert.ok(dumped.equals(readFileSync(join(FILES, `many.r${length}`))));
      }
      vm.close();
    },
  },
  {
    id: 'package/inherited-and-received-fds',
    async run(kvm) {
      const vm = newVm(kvm, 18);
      const before = fds();
      const { htab } = vm.open();
      const { htab: writer } = vm.open(2n);
      assert.ok(htab !== undefined && writer !== undefined);
      await using adopted = await adoptHtabFd(htab.fd);
      assert.equal(adopted.writable, false);
      assert.equal((await dump(adopted)).length, 8);
      const path = '@spapr-htab-test';
      assert.equal(htab.serve(path).errno, undefined);
      await using received = await receiveHtabFd(path);
      assert.equal(received.pass().number, 0);
      for await (const _ of received.pass()) assert.fail('the first pass was read already');
      await using written = await adoptHtabFd(writer.fd);
      await put(written, 100);
      assert.equal(writer.serve(path).errno, undefined);
      await using receivedWriter = await receiveHtabFd(path);
      await put(receivedWriter, 200);
      assert.deepEqual(await slotsIn(vm), [100, 200]);
      for (const fd of [adopted, received, written, receivedWriter]) await fd.close();
      for (const raw of [htab, writer]) raw.close();
      assert.equal(fds(), before, 'none stays open');
      vm.close();
    },
  },
  {
    id: 'package/a-guest-that-runs',
    async run(kvm) {
      const vm = newVm(kvm);
      vm.setMemory({ size: 64 << 20, touch: true });
      const { vcpu } = vm.startVcpu();
      await using writer = await openHtabFd(vm.fd, { write: true });
      const refused = await restore(GUEST, writer).catch((error: unknown) => error);
      assert.ok(refused instanceof HtabWriteError);
      assert.equal(refused.errno, 'EBUSY');
      await using reader = await openHtabFd(vm.fd);
      assert.ok((await dump(reader)).length > 0, 'reading goes on');
      vcpu?.stop();
      await restore(GUEST, writer, { canonical: true });
      vm.close();
    },
  },
  {
    id: 'package/thousands-of-fds',
    async run(kvm) {
      const vm = newVm(kvm, 18);
      const before = fds();
      await openMany(vm, 2000);
      for (let i = 0; i < 50 && fds() > before; i++) {
        globalThis.gc?.();
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      assert.equal(fds(), before);
      vm.close();
    },
  },
  {
    id: 'package/commands',
    async run(kvm) {
      const vm = newVm(kvm);
      const { htab: writer } = vm.open(2n);
      assert.ok(writer !== undefined);
      const restored = await command(['restore', GUEST, '--fd', '3'], writer.fd);
      assert.equal(restored.bytes, readFileSync(GUEST).length);
      const { htab: reader } = vm.open();
      assert.ok(reader !== undefined);
      const path = '/tmp/commands.msgpack';
      const captured = await command(['capture', '--fd', '3', '-o', path], reader.fd);
      assert.equal(captured.order, ORDER);
      await using hpt = await openHpt(path);
      await using source = await openHpt(GUEST);
      assert.ok((await hpt.table()).equals(await source.table()));
      const doctor = await command(['doctor'], reader.fd);
      assert.deepEqual(doctor.arch, 'ppc64');
      assert.equal((doctor.htabFd as { available: boolean }).available, true);
      for (const raw of [reader, writer]) raw.close();
      vm.close();
    },
  },
  {
    id: 'package/an-fd-of-another-process',
    async run(kvm) {
      const vm = newVm(kvm, 18);
      const { htab } = vm.open();
      const { htab: writer } = vm.open(2n);
      assert.ok(htab !== undefined && writer !== undefined);
      // The child has them as its numbers 3 and 4; ours go.
      const child = spawn('/bin/busybox', ['sleep', '600'], {
        stdio: ['ignore', 'ignore', 'ignore', htab.fd, writer.fd],
      });
      try {
        await once(child, 'spawn');
        for (const raw of [htab, writer]) raw.close();
        const pid = child.pid ?? 0;
        await using taken = await htabFdOfProcess(pid, { fd: 3 });
        assert.equal((await dump(taken)).length, 8);
        await assert.rejects(htabFdOfProcess(pid), /several HTAB fds.*3 \(read\), 4 \(written\)/);
        const missing = htabFdOfProcess(process.pid, { fd: 0 });
        await assert.rejects(missing, { code: 'E_NOT_HTAB_FD' });
        const words = ['--pid', String(pid), '--fd', '3', '--partial'];
        const done = await command(['capture', ...words, '-o', '/tmp/taken.htab'], 0);
        assert.equal(done.blocks, 0, 'its first pass was read');
        await using takenWriter = await htabFdOfProcess(pid, { fd: 4 });
        await put(takenWriter, 300);
        assert.deepEqual(await slotsIn(vm), [300]);
      } finally {
        child.kill('SIGKILL');
      }
      vm.close();
    },
  },
  {
    id: 'package/the-only-fd-of-another-process',
    async run(kvm) {
      const vm = newVm(kvm, 18);
      const { htab: writer } = vm.open(2n);
      assert.ok(writer !== undefined);
      const child = spawn('/bin/busybox', ['sleep', '600'], {
        stdio: ['ignore', 'ignore', 'ignore', writer.fd],
      });
      try {
        await once(child, 'spawn');
        writer.close();
        await using taken = await htabFdOfProcess(child.pid ?? 0);
        await put(taken, 400);
        assert.deepEqual(await slotsIn(vm), [400]);
      } finally {
        child.kill('SIGKILL');
      }
      vm.close();
    },
  },
];
