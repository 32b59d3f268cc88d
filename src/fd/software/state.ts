import type { ByteOrder } from '../../htab/block.js';
import { htabFdError } from '../descriptor.js';
import type { KernelHpt } from './hpt.js';
import { Turns } from './turns.js';
import type { BlocksPerWrite } from './write.js';

/** What the descriptors of a VM have in common: of struct kvm_arch, what the HTAB fd looks at. */
export class VmState {
  readonly turns = new Turns();
  /** Whether the guest's MMU is in radix mode. */
  radix: boolean;
  /** Whether a vCPU runs (`vcpus_running`, with the MMU set up). */
  running = false;
  /**
   * Whether the MMU is set up (`mmu_ready`): a vCPU that is about to run finds what it needs in the
   * HPT.
   */
  mmuReady: boolean;

  constructor(
    readonly hpt: KernelHpt,
    readonly byteOrder: ByteOrder,
    readonly blocksPerWrite: BlocksPerWrite,
  ) {
    // On a radix host a guest starts out as radix (kvmppc_core_init_vm_hv).
    this.radix = hpt.host === 'power9-radix';
    this.mmuReady = this.radix;
  }

  mmuSetUp(): void {
    this.mmuReady = true;
  }

  /** The checks of kvm_htab_write before it looks at a byte. @throws IoError `E_HTAB_FD` */
  checkWritable(): void {
    if (this.radix) {
      const words = "the guest's MMU runs in radix mode, so that it has no HPT";
      throw htabFdError('write to the HTAB fd', 'EINVAL', words);
    }
    this.checkStopped('write to the HTAB fd');
  }

  /** @throws IoError `E_HTAB_FD` EBUSY */
  checkStopped(doing: string): void {
    if (!this.running) return;
    throw htabFdError(doing, 'EBUSY', 'a vCPU of the guest is running; stop the guest first');
  }
}
