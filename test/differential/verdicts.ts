import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { convert, HashPageTable, openHpt, rewrite, SpaprHtabError, verify } from 'spapr-htab';
import type { Command } from '../../fixtures/capture/programs.js';
import type { Fixture } from '../helpers/fixtures.js';
import { fixtureArguments, LoadedGuest } from '../qemu/guest.js';

/** A table as it is after a load: null of a guest without HPT. */
export type Loaded = HashPageTable | null;

export type Verdict =
  | { readonly kind: 'accepts'; readonly table: Loaded }
  /** With the package's error, or what QEMU says. */
  | { readonly kind: 'refuses'; readonly why: string; readonly error?: SpaprHtabError }
  /** QEMU ended by a signal. */
  | { readonly kind: 'crashes'; readonly why: string };

/** What the package says, by the word of each verb that reads all of the section. */
export interface OurVerdict {
  readonly verdict: Verdict;
  /** Error code, or `ok`, of `convert`, `verify` and `rewrite`. */
  readonly verbs: Readonly<Record<'table' | 'convert' | 'verify' | 'rewrite', string>>;
  readonly warnings: readonly string[];
}

/** Orders that need more are refused for want of memory; the machine is not to run out of it. */
const MEMORY_BYTES = 3 * 2 ** 30;
const QEMU: Command = {
  file: 'prlimit',
  args: [`--as=${MEMORY_BYTES}`, '--core=0', '--', 'qemu-system-ppc64'],
};

/**
 * Without what QEMU takes in and does not write out again: entries without V, and the bit that is its
 * own mark of a change.
 */
async function tableOf(path: string): Promise<Loaded> {
  await using hpt = await openHpt(path);
  try {
    return await HashPageTable.from((await hpt.table()).canonical('qemu'));
  } catch (error) {
    if (error instanceof SpaprHtabError && error.code === 'E_NO_HPT') return null;
    throw error;
  }
}

async function outcome<T>(job: () => Promise<T>): Promise<T | SpaprHtabError> {
  try {
    return await job();
  } catch (error) {
    if (!(error instanceof SpaprHtabError)) throw error;
    return error;
  }
}

/** The package's reading of a file. Anything thrown that is not its own error goes through. */
export async function ours(path: string, bytes: Buffer, folder: string): Promise<OurVerdict> {
  const output = join(folder, 'output');
  const table = await outcome(() => tableOf(path));
  const converted = await outcome(() => convert(path, output, { to: 'section', force: true }));
  const verified = await outcome(() => verify(path));
  const findings = verified instanceof SpaprHtabError ? [] : verified.findings;
  const warnings = findings.map(({ code }) => code);
  // What is wrong with single entries has codes of its own.
  const error = findings.find((one) => one.severity === 'error' && one.code.startsWith('E_'));
  const rewritten = await outcome(() => rewrite(path, output, { force: true }));
  if (!(rewritten instanceof SpaprHtabError)) {
    const same = rewritten.identical && bytes.equals(await readFile(output));
    if (!same) throw new Error('a rewrite without edits changed something');
  }
  await rm(output, { force: true });
  const code = (result: unknown): string => (result instanceof SpaprHtabError ? result.code : 'ok');
  return {
    verdict:
      table instanceof SpaprHtabError
        ? { kind: 'refuses', why: table.code, error: table }
        : { kind: 'accepts', table },
    verbs: {
      table: code(table),
      convert: code(converted),
      verify: error?.code ?? (warnings.includes('W_NO_SECTION') ? 'E_NO_SECTION' : code(verified)),
      rewrite: code(rewritten),
    },
    warnings,
  };
}

/** QEMU's: what it says, and where it loads the file, what it then has. */
export async function qemus(
  fixture: Fixture,
  path: string,
  options: { readonly table: boolean },
): Promise<Verdict> {
  let guest: LoadedGuest | undefined;
  try {
    guest = await LoadedGuest.load({
      args: fixtureArguments(fixture),
      uri: `exec:cat '${path}'`,
      program: QEMU,
    });
  } catch (error) {
    return ended(error);
  }
  if (guest === undefined) throw new Error('no capability was asked for');
  await using loaded = guest;
  return { kind: 'accepts', table: options.table ? await tableOf(await loaded.again()) : null };
}

/** `QEMU ended (1): …`, or the name of a signal. */
function ended(error: unknown): Verdict {
  const [, how = '', why = ''] =
    /^QEMU ended \((\w+)\): (.*)$/s.exec((error as Error).message) ?? [];
  if (how === '') throw error;
  return { kind: how.startsWith('SIG') ? 'crashes' : 'refuses', why: why || how };
}

/** What rewriting makes of it, for QEMU to load. */
export async function compacted(path: string, folder: string): Promise<string> {
  const output = join(folder, 'compact');
  await rewrite(path, output, { force: true, compact: true });
  return output;
}

export async function put(folder: string, bytes: Buffer): Promise<string> {
  const path = join(folder, 'stream');
  await writeFile(path, bytes);
  return path;
}
