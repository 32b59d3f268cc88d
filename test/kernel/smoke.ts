/**
 * Runs inside: both addons load there, KVM gives a VM, an HPT and the fd of that, and a vCPU runs.
 * Prints a line for each.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { probeHtabFd } from 'spapr-htab';
import { type Answer, Kvm } from './vm.js';

const KVM_CAP_PPC_HTAB_FD = 84;
const KVM_GET_HTAB_WRITE = 2n;
const EMPTY_ORDER_18 = '0000000000000040';
/** A block of one entry: index 0, valid, 4 KiB. */
const BLOCK = Buffer.from('0000000001000000000000000000ff810000000000001192', 'hex');

const said: string[] = [];

function report(what: string, value: unknown): void {
  said.push(`${what}: ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  console.log(said.at(-1));
}

/** What must have succeeded. */
function ok<T extends object>(answer: Answer<T>): T {
  assert.equal(answer.errno, undefined);
  return answer as T;
}

report('Node', `${process.versions.node}, Node-API ${process.versions.napi}`);
const probe = probeHtabFd();
assert.equal(probe.available, true, probe.reason);
report('native addon', probe.reason);

const kvm = new Kvm();
const { vm } = ok(kvm.createVm());
for (const one of [kvm, vm]) {
  assert.deepEqual(one.checkExtension(KVM_CAP_PPC_HTAB_FD), { value: 1 });
}
assert.deepEqual(vm.allocate(18), { order: 18 });
ok(vm.setMemory({ size: 64 * 2 ** 20 }));

const reader = ok(vm.open()).htab;
assert.equal(ok(reader.link()).target, 'anon_inode:kvm-htab');
const empty = reader.read(4096).bytes?.toString('hex');
assert.equal(empty, EMPTY_ORDER_18);
report('empty table', empty);
assert.equal(vm.openBadPointer().errno, 'EFAULT');

const writer = ok(vm.open({ flags: KVM_GET_HTAB_WRITE })).htab;
assert.deepEqual(writer.write(BLOCK), { count: BLOCK.length });
assert.equal(writer.write(BLOCK.subarray(0, 0), BLOCK.length).errno, 'EFAULT');
const again = reader.read(4096).bytes?.toString('hex');
report('the entry', again);
assert.equal(again?.slice(0, 16), BLOCK.toString('hex', 0, 8));

const { vcpu } = ok(vm.startVcpu());
assert.deepEqual(writer.write(BLOCK), { errno: 'EBUSY' });
const stopped = vcpu.stop();
assert.equal(stopped.ended, 'EINTR');
assert.ok(stopped.rounds > 0n);
assert.deepEqual(writer.write(BLOCK), { count: BLOCK.length });
report('vCPU', 'EBUSY while it runs');

const results = process.env.SPAPR_HTAB_RESULTS;
assert.ok(results !== undefined);
writeFileSync(join(results, 'smoke.txt'), said.join('\n'));
