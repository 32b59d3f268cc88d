import { UsageError } from '../../errors.js';
import type { ByteOrder } from '../../htab/block.js';
import { HPTE_BYTES, isOrder, MAX_ORDER, MIN_ORDER, noSuchOrder } from '../../htab/order.js';
import type { HashPageTable } from '../../htab/table.js';
import { type LimitOptions, type Limits, limitsOf } from '../../limits.js';
import { checkChoice, checkSlot, checkU64 } from '../arguments.js';
import { htabFdError } from '../descriptor.js';
import { HtabFd } from '../htab-fd.js';
import { BYTE_ORDERS, SoftwareDescriptor, type SoftwareOpenOptions } from './descriptor.js';
import { KernelHpt, SOFTWARE_HOSTS, type SoftwareHost } from './hpt.js';
import { type GuestMemory, MemorySlots } from './memory.js';
import { SlotTable } from './slots.js';
import { loadTable, snapshotTable } from './snapshot.js';
import { VmState } from './state.js';
import type { Work } from './turns.js';
import { mapVrma } from './vrma.js';
import { BLOCKS_PER_WRITE, type BlocksPerWrite } from './write.js';

export interface SoftwareHtabOptions {
  /** An HPT of this order from the start, 18 to 46. Default: none, as in a VM just created. */
  readonly order?: number | undefined;
  /**
   * The machine whose kernel is imitated: POWER8, or POWER9 with the host in radix or hash mode
   * (`disable_radix`). Default `power8`.
   */
  readonly host?: SoftwareHost | undefined;
  /** The guest's memory slots. Default none: then every entry maps a device, and is taken. */
  readonly memory?: readonly GuestMemory[] | undefined;
  /**
   * What one write does with several blocks: `documented` takes them all; `kernel` has the mistakes
   * of Linux 6.1. Default `documented`.
   */
  readonly blocksPerWrite?: BlocksPerWrite | undefined;
  /** Byte order of the host, and so of block headers. Default `little`. */
  readonly byteOrder?: ByteOrder | undefined;
  /** Largest order for which the host finds memory; more is ENOMEM. Default 46. */
  readonly maxOrder?: number | undefined;
  /** Of them, `tableBytes` counts here: what would take more ends in a LimitError. Default: DEFAULT_LIMITS. */
  readonly limits?: LimitOptions | undefined;
}

/** KVM_PPC_MMUV3_RADIX and KVM_PPC_MMUV3_GTSE (include/uapi/linux/kvm.h). */
const MMUV3_RADIX = 1n;
const MMUV3_GTSE = 2n;
/** PATB_GR and PRTS_MASK (arch/powerpc/include/asm/reg.h, book3s/64/mmu.h). */
const PATB_GR = 1n << 63n;
const PRTS_MASK = 0x1fn;
/** KVM_DEFAULT_HPT_ORDER: what a vCPU that finds no HPT gets. */
const DEFAULT_ORDER = 24;

const ALLOCATE = 'allocate the HPT';
const CONFIGURE = 'set the MMU mode';

/**
 * The HPT of a VM in software, with file descriptors that answer as those of KVM_PPC_GET_HTAB_FD on
 * Linux 6.1 kvm-hv do, byte for byte and errno for errno.
 *
 * Methods that return no promise take effect at once, after all calls made before them.
 *
 * Not imitated, since it is the host's doing and not a caller's: pages that the host ages, moves or
 * swaps (R and C may then reach the guest without a reader seeing a change), memory slots over
 * device memory (H_PARAMETER where an entry's WIMG does not agree), and KVM_PPC_RESIZE_HPT. Nor is
 * `allocate(0)` without an HPT, for which Linux 6.1 clears memory that is not there: it is EINVAL.
 */
export class SoftwareHtab {
  readonly #vm: VmState;
  readonly #maxOrder: number;
  readonly #limits: Limits;

  /**
   * @throws UsageError `E_ORDER`; `E_USAGE` for memory slots that no VM can have, and other options
   *   that make no sense; IoError `E_HTAB_FD` ENOMEM for an order above `maxOrder`
   */
  constructor(options: SoftwareHtabOptions = {}) {
    const { order, host = 'power8', blocksPerWrite = 'documented', byteOrder = 'little' } = options;
    const { maxOrder = MAX_ORDER } = options;
    if (order !== undefined && !isOrder(order)) throw noSuchOrder(order);
    checkChoice('host', host, SOFTWARE_HOSTS);
    checkChoice('blocksPerWrite', blocksPerWrite, BLOCKS_PER_WRITE);
    checkChoice('byteOrder', byteOrder, BYTE_ORDERS);
    if (!Number.isInteger(maxOrder)) {
      throw new UsageError('E_USAGE', 'maxOrder is no whole number', { actual: String(maxOrder) });
    }
    this.#maxOrder = maxOrder;
    this.#limits = limitsOf(options.limits);
    this.#vm = new VmState(new KernelHpt(host), byteOrder, blocksPerWrite);
    if (options.memory !== undefined) this.setMemory(options.memory);
    if (order !== undefined) this.allocate(order);
  }

  get host(): SoftwareHost {
    return this.#vm.hpt.host;
  }

  /** Order of the HPT; undefined while there is none. */
  get order(): number | undefined {
    this.#vm.turns.finish();
    return this.#vm.hpt.table?.order;
  }

  /** Whether the guest's MMU is in radix mode: then it has no HPT, and reads give nothing. */
  get radix(): boolean {
    this.#vm.turns.finish();
    return this.#vm.radix;
  }

  /**
   * Whether a vCPU of the guest runs. Writes and changes of the HPT are EBUSY then; reads go on.
   * Setting it makes no entries; see {@link startVcpu}.
   */
  get running(): boolean {
    this.#vm.turns.finish();
    return this.#vm.running;
  }

  set running(running: boolean) {
    this.#vm.turns.finish();
    this.#vm.running = running;
    if (running) this.#vm.mmuReady = true;
  }

  /**
   * KVM_PPC_ALLOCATE_HTAB: an empty HPT of that order (kvmppc_alloc_reset_hpt,
   * arch/powerpc/kvm/book3s_64_mmu_hv.c, Linux 6.1). A radix guest becomes a hash guest.
   *
   * Descriptors stay open and keep their cursor and pass. With the order that the table has, its
   * entries go but the "modified" marks stay, so that later passes report the slots that were
   * marked, and no others. With another order there are no marks (new memory is cleared, as by
   * `init_on_alloc`, which distributions set). An order that is refused leaves no HPT at all.
   *
   * @throws IoError `E_HTAB_FD`: EBUSY while a vCPU runs; EINVAL for an order that is not 18 to 46;
   *   ENOMEM
   */
  allocate(order: number): void {
    const vm = this.#vm;
    vm.turns.finish();
    vm.checkStopped(ALLOCATE);
    vm.mmuReady = false;
    vm.radix = false;
    if (vm.hpt.table !== undefined && vm.hpt.table.order === order) {
      vm.hpt.table.reset();
      return;
    }
    vm.hpt.table = undefined;
    vm.hpt.table = this.#newTable(order);
  }

  #newTable(order: number): SlotTable {
    if (!isOrder(order)) {
      const words = `no HPT has order ${order}; it is ${MIN_ORDER} to ${MAX_ORDER}. There is none now`;
      throw htabFdError(ALLOCATE, 'EINVAL', words);
    }
    if (order > this.#maxOrder) {
      const words = `the host has no memory for order ${order}. There is no HPT now`;
      throw htabFdError(ALLOCATE, 'ENOMEM', words);
    }
    return new SlotTable(order, this.#limits);
  }

  /**
   * Sets the memory slots (KVM_SET_USER_MEMORY_REGION). Entries stay; those of a slot that goes
   * lose their host page, with R and C kept for the guest (kvmppc_core_flush_memslot_hv).
   * @throws UsageError `E_USAGE` for slots that are not whole pages of 64 KiB, or overlap
   */
  setMemory(memory: readonly GuestMemory[]): void {
    const { turns, hpt } = this.#vm;
    turns.finish();
    const before = hpt.memory;
    const after = new MemorySlots(memory, hpt.hugePage);
    hpt.memory = after;
    if (!before.empty) hpt.unmap((page, shift) => before.lost(page, shift, after));
  }

  /**
   * Switches between radix and hash as KVM_PPC_CONFIGURE_V3_MMU does. Either way the guest has no
   * HPT afterwards, unless it is in that mode already.
   * @throws IoError `E_HTAB_FD`: ENODEV on POWER8; EINVAL for radix on a hash host; EBUSY
   */
  setRadix(radix: boolean): void {
    this.configureMmu(radix ? MMUV3_RADIX | MMUV3_GTSE : 0n, radix ? PATB_GR : 0n);
  }

  /**
   * KVM_PPC_CONFIGURE_V3_MMU (kvmhv_configure_mmu, arch/powerpc/kvm/book3s_hv.c, Linux 6.1).
   * @param flags 1 for radix, 2 for GTSE
   * @param processTable its top bit must agree with `flags`, its lowest five be 24 at most
   * @throws IoError as {@link setRadix}; UsageError `E_USAGE` for what is no u64
   */
  configureMmu(flags: bigint, processTable: bigint): void {
    const vm = this.#vm;
    checkU64('flags', flags);
    checkU64('processTable', processTable);
    vm.turns.finish();
    if (vm.hpt.host === 'power8') {
      throw htabFdError(CONFIGURE, 'ENODEV', 'POWER8 has no radix mode');
    }
    const radix = (flags & MMUV3_RADIX) !== 0n;
    if (
      (flags & ~(MMUV3_RADIX | MMUV3_GTSE)) !== 0n ||
      ((processTable & PATB_GR) !== 0n) !== radix ||
      (processTable & PRTS_MASK) > 24n
    ) {
      throw htabFdError(CONFIGURE, 'EINVAL', 'the flags or the process table make no sense');
    }
    if (radix && vm.hpt.host !== 'power9-radix') {
      throw htabFdError(CONFIGURE, 'EINVAL', 'the host runs in hash mode, and so do its guests');
    }
    if (radix === vm.radix) return;
    vm.checkStopped(CONFIGURE);
    vm.mmuReady = false;
    vm.radix = radix;
    vm.hpt.table = undefined;
  }

  /**
   * KVM_PPC_GET_HTAB_FD: an fd with passes and whole blocks. Its `descriptor` reads and writes byte
   * by byte.
   * @throws IoError `E_HTAB_FD` EINVAL for flags that KVM does not know; UsageError `E_USAGE`
   */
  open(options: SoftwareOpenOptions = {}): HtabFd<SoftwareDescriptor> {
    const descriptor = this.descriptor(options);
    return new HtabFd(descriptor, descriptor.writable);
  }

  /** The same, byte by byte only. @throws as {@link open} */
  descriptor(options: SoftwareOpenOptions = {}): SoftwareDescriptor {
    this.#vm.turns.finish();
    return new SoftwareDescriptor(this.#vm, options);
  }

  /**
   * A vCPU begins to run. Where the MMU is not set up (a new HPT), KVM first makes bolted entries
   * for the guest's memory, in an HPT of order 24 if there is none (kvmppc_hv_setup_htab_rma,
   * arch/powerpc/kvm/book3s_hv.c, Linux 6.1). Set `running` to false to stop it.
   * @throws IoError `E_HTAB_FD` EINVAL when the guest has no memory at 0
   */
  async startVcpu(): Promise<void> {
    await this.#vm.turns.run(this.#startVcpu());
  }

  *#startVcpu(): Work<void> {
    const vm = this.#vm;
    if (!vm.mmuReady && !vm.radix) {
      vm.hpt.table ??= this.#newTable(Math.min(DEFAULT_ORDER, this.#maxOrder));
      const memory = vm.hpt.memory.atZero;
      if (memory === undefined) {
        throw htabFdError('run a vCPU', 'EINVAL', 'the guest has no memory at address 0');
      }
      yield* mapVrma(vm.hpt, memory);
    }
    vm.mmuReady = true;
    vm.running = true;
  }

  /**
   * What a running guest's use of a page does to its entry: the processor sets R, with `store` C
   * too. A read reports it as a change once.
   * @returns false when the slot is empty, or beyond the table
   * @throws UsageError `E_USAGE` for an index that is no whole number
   */
  touch(index: number, options: { store?: boolean | undefined } = {}): boolean {
    checkSlot(index);
    this.#vm.turns.finish();
    return this.#vm.hpt.touch(index, options.store ?? false);
  }

  /**
   * H_ENTER with H_EXACT, as a running guest does it (kvmppc_do_h_enter).
   * @param index slot; beyond the table H_PARAMETER. H_FUNCTION: the guest is in radix mode
   * @throws UsageError `E_USAGE` for an index that is no whole number, or doublewords that are no u64
   */
  hEnter(
    index: number,
    dw0: bigint,
    dw1: bigint,
  ): 'H_SUCCESS' | 'H_PARAMETER' | 'H_PTEG_FULL' | 'H_FUNCTION' {
    checkSlot(index);
    checkU64('dw0', dw0);
    checkU64('dw1', dw1);
    this.#vm.turns.finish();
    const { hpt, radix } = this.#vm;
    if (radix) return 'H_FUNCTION';
    if (index >= hpt.slots) return 'H_PARAMETER';
    const entry = new Uint8Array(HPTE_BYTES);
    const view = new DataView(entry.buffer);
    view.setBigUint64(0, dw0);
    view.setBigUint64(8, dw1);
    const refusal = hpt.enter(index, entry, 0);
    if (refusal === undefined) return 'H_SUCCESS';
    return refusal === 'occupied' ? 'H_PTEG_FULL' : 'H_PARAMETER';
  }

  /**
   * H_REMOVE without conditions (kvmppc_do_h_remove).
   * @throws UsageError `E_USAGE` for an index that is no whole number
   */
  hRemove(index: number): 'H_SUCCESS' | 'H_PARAMETER' | 'H_NOT_FOUND' | 'H_FUNCTION' {
    checkSlot(index);
    this.#vm.turns.finish();
    const { hpt, radix } = this.#vm;
    if (radix) return 'H_FUNCTION';
    if (index >= hpt.slots) return 'H_PARAMETER';
    return hpt.remove(index, index + 1) > 0 ? 'H_SUCCESS' : 'H_NOT_FOUND';
  }

  /**
   * The table as a first pass would give it now, bit 0x40 included; no mark goes. Undefined while
   * there is none.
   */
  async table(): Promise<HashPageTable | undefined> {
    return await this.#vm.turns.run(snapshotTable(this.#vm.hpt));
  }

  /**
   * Makes the HPT that of `table`: {@link allocate} with its order, then every entry as a write to
   * the fd would put it.
   * @throws IoError `E_HTAB_FD` as `allocate`, and EIO or EINVAL for an entry that KVM refuses
   */
  async load(table: HashPageTable): Promise<void> {
    this.allocate(table.order);
    const vm = this.#vm;
    await vm.turns.run(loadTable(vm.hpt, table, { onVrma: () => vm.mmuSetUp() }));
  }
}
