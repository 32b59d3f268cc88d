import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { CaptureArguments } from './capture.js';
import type { CheckArguments } from './check.js';
import type { ConvertArguments } from './convert.js';
import type { InfoArguments } from './info.js';
import type { InputArguments, LimitArguments } from './input.js';
import type { RamArguments } from './ram.js';
import type { RestoreArguments } from './restore.js';
import type { RewriteArguments } from './rewrite.js';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

const EXIT_CODES = `
Exit codes: 0 done, 1 input or output failed, 2 wrong usage, 3 malformed input,
4 valid but not supported, 5 the target would refuse the snapshot (check), 130 interrupted.`;

function integer(least: number): (text: string) => number {
  return (text) => {
    const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least}.`);
  };
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/** One `--limit`, beside those before it. Whether there is such a limit, the library says. */
function limitOf(text: string, before: LimitArguments = {}): LimitArguments {
  const [, name = '', number, unit = ''] = /^(\w+)=(?:(\d+)([KMGTP]?)|none)$/i.exec(text) ?? [];
  const value =
    number === undefined
      ? Number.POSITIVE_INFINITY
      : Number(number) * 1024 ** UNITS.indexOf(unit.toUpperCase());
  if (name !== '' && (number === undefined || Number.isSafeInteger(value))) {
    return { ...before, [name]: value };
  }
  throw new InvalidArgumentError('It must be NAME=NUMBER, such as spoolBytes=200G, or NAME=none.');
}

/** As in formats/format.ts and rewrite/wrapping.ts, which are not loaded for help and the version. */
const HPT_FORMATS = ['kernel', 'section', 'image', 'archive'];
const INPUT_FORMATS = ['snapshot', ...HPT_FORMATS];
const OUTPUT_FORMATS = ['none', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'lz4', 'sparse'];
const ENDIAN = ['little', 'big'];

const from = new Option('--from <format>', 'what the input is (default: told by its content)');
from.choices(INPUT_FORMATS);
const fromEndian = new Option('--from-endian <order>', 'byte order of kernel blocks that are read');
fromEndian.choices(ENDIAN);
const order = new Option('--order <n>', 'order of the table, where the input does not tell it');
order.argParser(integer(0));
const snapshot = new Option('--snapshot <id|name>', 'which internal snapshot of a qcow2 image');
const offset = new Option('--offset <bytes>', 'where the data begins in a larger file');
offset.argParser(integer(0));
const limit = new Option(
  '--limit <name=value>',
  'another value for a limit on what the input may make of this process, such as spoolBytes=200G; may be repeated',
);
limit.argParser(limitOf);
const force = new Option('-f, --force', 'replace the output if it exists');
const to = new Option(
  '--to <format>',
  'output format (default: by extension: .htab .section .img .msgpack)',
);
to.choices(HPT_FORMATS);
const boltedOnly = new Option(
  '--bolted-only',
  'keep the bolted entries only, as the kernel flag reads them',
);
const markParts = new Option(
  '--mark-parts',
  'end each part of kernel output with an empty block, to get it back',
);
const fd = new Option(
  '--fd <n>',
  'an HTAB fd that the command inherited; with --pid, one of that process',
);
fd.argParser(integer(0));
const pid = new Option(
  '--pid <pid>',
  'the HTAB fd that this process has open; what is read from it, that process will lack',
);
pid.argParser(integer(1));
const json = new Option('--json', 'print JSON, errors included');

/** What the input is, and where in a larger file it stands: for all verbs that read one. */
const FORMAT = [from, fromEndian, order];
const PLACE = [snapshot, offset, limit];

/** A verb that takes options several at a time. */
class Verb extends Command {
  addOptions(options: readonly Option[]): this {
    for (const option of options) this.addOption(option);
    return this;
  }

  override createCommand(name?: string): Verb {
    return new Verb(name);
  }
}

/** The command line: every verb and its options. What a verb does is loaded when it is called. */
export function program(signal: AbortSignal): Command {
  const root = new Verb('spapr-htab')
    .description('Read, check, translate and rewrite the hashed page table (HPT) of ppc64 guests.')
    .version(version)
    .addHelpText('after', EXIT_CODES)
    .exitOverride()
    .configureOutput({
      writeErr: (text) => {
        if (!process.argv.includes('--json')) process.stderr.write(text);
      },
    })
    .showHelpAfterError('(see --help)');

  root
    .command('info')
    .description('Say what a file is and what it holds.')
    .argument('<file>', "a snapshot or HPT file, or '-' for standard input")
    .addOption(json)
    .option('--devices', "decode every device's state too; prints JSON")
    .option('--xml', 'give the XML and the cookie of a libvirt image too; prints JSON')
    .addOptions(FORMAT)
    .addOptions(PLACE)
    .action(async (file: string, options: InfoArguments) => {
      const { runInfo } = await import('./info.js');
      process.exitCode = await runInfo(file, options, signal);
    });

  root
    .command('convert')
    .description('Convert the HPT of a snapshot, or an HPT file, to an HPT file.')
    .argument('<input>', "a snapshot or HPT file, or '-' for standard input")
    .requiredOption('-o, --output <file>', "the file to write, or '-' for standard output")
    .addOption(from)
    .addOption(to)
    .addOption(
      new Option('--endian <order>', 'byte order of kernel blocks that are written')
        .choices(ENDIAN)
        .default('little'),
    )
    .addOption(fromEndian)
    .addOption(order)
    .addOption(boltedOnly)
    .option('--canonical', 'rebuild the table and write it in canonical form')
    .addOption(markParts)
    .addOption(force)
    .addOptions(PLACE)
    .addOption(json)
    .action(async (input: string, options: ConvertArguments) => {
      const { runConvert } = await import('./convert.js');
      await runConvert(input, options, signal);
    });

  root
    .command('ram')
    .description("Write a guest's memory, one RAM block, to a sparse file.")
    .argument('<file>', "a snapshot, or '-' for standard input")
    .requiredOption('-o, --output <file>', 'the file to write')
    .option('--block <name>', 'RAM block (default: ppc_spapr.ram, or the largest)')
    .addOption(force)
    .addOptions(PLACE)
    .addOption(json)
    .action(async (file: string, options: RamArguments) => {
      const { runRam } = await import('./ram.js');
      await runRam(file, options, signal);
    });

  root
    .command('verify')
    .description('Check a snapshot or HPT file: structure, footers, counts, every entry.')
    .argument('<file>', "a snapshot or HPT file, or '-' for standard input")
    .addOption(json)
    .addOptions(FORMAT)
    .addOptions(PLACE)
    .action(async (file: string, options: InputArguments) => {
      const { runVerify } = await import('./verify.js');
      process.exitCode = await runVerify(file, options, signal);
    });

  root
    .command('rewrite')
    .description('Write a snapshot anew, with edits; what no edit touches stays the same bytes.')
    .argument('<file>', "a snapshot, or '-' for standard input")
    .requiredOption('-o, --output <file>', "the file to write, or '-' for standard output")
    .option('--htab <file>', 'put this HPT in: blocks, section payloads, image or archive')
    .addOption(
      new Option('--htab-from <format>', 'what that is (default: told by its content)').choices(
        INPUT_FORMATS,
      ),
    )
    .addOption(
      new Option('--htab-endian <order>', 'byte order of its block headers').choices(ENDIAN),
    )
    .addOption(
      new Option('--htab-order <n>', 'order of its table, where it does not tell it').argParser(
        integer(0),
      ),
    )
    .option('--allow-other-order', "take an HPT of another order than the stream's")
    .option('--allow-radix', 'take an HPT for a guest without one, or none for one with it')
    .addOption(
      new Option('--order <n>', 'rehash the HPT into a table of this order').argParser(integer(0)),
    )
    .option('--like-kernel', 'with --order: drop what is not bolted, as the kernel does')
    .addOption(boltedOnly)
    .option('--compact', 'say the HPT once, in the smallest framing')
    .option('--machine <name>', 'machine type for the configuration')
    .addOption(
      new Option('--container <kind>', 'what to write (default: as the input)').choices([
        'raw',
        'libvirt',
      ]),
    )
    .addOption(
      new Option('--compress <format>', 'how the stream is stored (default: as the input)').choices(
        OUTPUT_FORMATS,
      ),
    )
    .option('--xml <file>', "the domain's XML for a libvirt image (default: the one it has)")
    .addOption(
      new Option('--running', 'let libvirt start the guest after a restore').conflicts('paused'),
    )
    .option('--paused', 'let libvirt leave the guest paused after a restore')
    .addOption(force)
    .addOptions(PLACE)
    .addOption(json)
    .action(async (file: string, options: RewriteArguments) => {
      const { runRewrite } = await import('./rewrite.js');
      await runRewrite(file, options, signal);
    });

  root
    .command('check')
    .description('Say what a QEMU would refuse of a snapshot, before it is loaded.')
    .argument('<file>', "a snapshot, or '-' for standard input")
    .requiredOption(
      '--vmstate <json>',
      'the target: what qemu-system-ppc64 -M NAME -dump-vmstate JSON wrote',
    )
    .addOptions(PLACE)
    .addOption(json)
    .action(async (file: string, options: CheckArguments) => {
      const { runCheck } = await import('./check.js');
      process.exitCode = await runCheck(file, options, signal);
    });

  root
    .command('capture')
    .description("Read a guest's HPT from the kernel's HTAB fd into a file.")
    .requiredOption('-o, --output <file>', "the file to write, or '-' for standard output")
    .addOptions([fd, pid, to])
    .addOption(
      new Option(
        '--endian <order>',
        "byte order of kernel blocks that are written (default: the host's)",
      ).choices(ENDIAN),
    )
    .addOption(
      new Option('--order <n>', 'order of the table (default: told by its first pass)').argParser(
        integer(0),
      ),
    )
    .addOption(boltedOnly)
    .addOption(
      new Option(
        '--passes <n>',
        'passes over the table at most: all of it, then changes (default: 1)',
      ).argParser(integer(1)),
    )
    .option('--until-quiet', 'read passes until one finds nothing changed')
    .option('--partial', 'take what the fd gives, even if it is not the whole table')
    .addOption(markParts)
    .addOption(force)
    .addOption(limit)
    .addOption(json)
    .action(async (options: CaptureArguments) => {
      const { runCapture } = await import('./capture.js');
      await runCapture(options, signal);
    });

  root
    .command('restore')
    .description("Write the HPT of a snapshot or HPT file to a VM through the kernel's HTAB fd.")
    .argument('<input>', "a snapshot or HPT file, or '-' for standard input")
    .addOptions([fd, pid])
    .addOption(boltedOnly)
    .option('--canonical', 'rebuild the table first; every slot is written or emptied')
    .option('--allow-other-order', "write to a table of another order than the input's")
    .addOptions(FORMAT)
    .addOptions(PLACE)
    .addOption(json)
    .action(async (input: string, options: RestoreArguments) => {
      const { runRestore } = await import('./restore.js');
      await runRestore(input, options, signal);
    });

  root
    .command('doctor')
    .description('Say what this machine offers: the HTAB fd, the addon, programs.')
    .addOption(json)
    .action(async (options: { json?: boolean }) => {
      const { runDoctor } = await import('./doctor.js');
      await runDoctor(options, version);
    });
  return root;
}
