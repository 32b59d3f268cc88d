import { fileURLToPath } from 'node:url';
import {
  BufferSource,
  ByteReader,
  boltedOnly,
  decodeKernel,
  decodeSection,
  encodeKernel,
  HashPageTable,
} from 'spapr-htab';
import { beforeAll, describe, expect, test } from 'vitest';
import { MissingPackage } from '../../fixtures/capture/apt.js';
import { type LinuxGuest, prepareLinux } from '../../fixtures/capture/guest.js';
import { captureKvm } from '../../fixtures/capture/kvm-capture.js';
import { KVM_RECIPES } from '../../fixtures/capture/kvm-recipes.js';
import { plainElements } from '../helpers/reference.js';
import { collect } from '../helpers/sources.js';
import { whatIsMissing } from './programs.js';

/** Where the guest's kernel is kept; other tests have the same there. */
const CACHE = fileURLToPath(new URL('../.cache/linux', import.meta.url));
/** One to two minutes; a machine can be busy, and packages may have to be fetched. */
const TIMEOUT = 900_000;
/** One of them is enough here: the other differs in what boots, and takes longer for that. */
const RECIPES = KVM_RECIPES.filter(({ cpu }) => cpu === 'POWER8');

let missing = whatIsMissing();
let linux: LinuxGuest | undefined;

beforeAll(async () => {
  if (missing === undefined) {
    try {
      linux = await prepareLinux(CACHE);
    } catch (error) {
      if (!(error instanceof MissingPackage)) throw error;
      missing = error.message;
    }
  }
  if (missing !== undefined) {
    console.warn(`\n!!! HTAB FDS OF A GUEST UNDER KVM ARE NOT TESTED: ${missing} !!!\n`);
  }
}, TIMEOUT);

describe('a guest under KVM', { timeout: TIMEOUT }, () => {
  test.for(RECIPES)(
    "$name: the kernel's table, QEMU's, and the way back",
    async (recipe, context) => {
      if (linux === undefined) return context.skip(missing);
      // It throws where QEMU's fd is not taken, or another VM's table is not the same.
      const made = await captureKvm(recipe, CACHE, linux, 'any');
      const { order, whole, bolted, elements, figures } = made;
      const blocks = () =>
        decodeKernel(new ByteReader(new BufferSource(whole)), { byteOrder: 'little', order });
      const kernel = await HashPageTable.from(blocks());
      const section = new ByteReader(new BufferSource(plainElements(elements)));
      expect((await HashPageTable.from(decodeSection(section))).equals(kernel)).toBe(true);
      const ours = await collect(encodeKernel(boltedOnly(blocks()), { byteOrder: 'little' }));
      expect(ours.equals(bolted)).toBe(true);
      const { valid } = figures.whole;
      expect(figures.back.restored).toMatchObject({ bytes: whole.length, valid, order });
      const { taken } = figures;
      expect(taken.from).toBeGreaterThan(0);
      expect(taken.left + taken.valid).toBe(taken.all);
    },
  );
});
