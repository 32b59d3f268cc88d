#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { CheckArguments } from './check.js';
import type { ConvertArguments } from './convert.js';
import type { InfoArguments } from './info.js';
import type { InputArguments } from './input.js';
import type { RamArguments } from './ram.js';
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

const from = new Option('--from <format>', 'what the input is (default: told by its content)');
from.choices(['snapshot', 'kernel', 'section', 'image', 'archive']);
const fromEndian = new Option('--from-endian <order>', 'byte order of kernel blocks that are read');
fromEndian.choices(['little', 'big']);
const order = new Option('--order <n>', 'order of the table, where the input does not tell it');
order.argParser(integer(0));
const snapshot = new Option('--snapshot <id|name>', 'which internal snapshot of a qcow2 image');
const offset = new Option('--offset <bytes>', 'where the data begins in a larger file');
offset.argParser(integer(0));
const spoolLimit = new Option(
  '--spool-limit <bytes>',
  'largest temporary copy of what must be read anywhere but comes through a pipe (default: 64 GiB)',
);
spoolLimit.argParser(integer(0));
const json = new Option('--json', 'print JSON, errors included');

function program(signal: AbortSignal): Command {
  const root = new Command('spapr-htab')
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
    .addOption(from)
    .addOption(fromEndian)
    .addOption(order)
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
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
    .addOption(
      new Option(
        '--to <format>',
        'output format (default: by extension: .htab .section .img .msgpack)',
      ).choices(['kernel', 'section', 'image', 'archive']),
    )
    .addOption(
      new Option('--endian <order>', 'byte order of kernel blocks that are written')
        .choices(['little', 'big'])
        .default('little'),
    )
    .addOption(fromEndian)
    .addOption(order)
    .option('--bolted-only', 'keep the bolted entries only, as the kernel flag reads them')
    .option('--canonical', 'rebuild the table and write it in canonical form')
    .option('--mark-parts', 'end each part of kernel output with an empty block, to get it back')
    .option('-f, --force', 'replace the output if it exists')
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
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
    .option('-f, --force', 'replace the output if it exists')
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
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
    .addOption(from)
    .addOption(fromEndian)
    .addOption(order)
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
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
      new Option('--htab-from <format>', 'what that is (default: told by its content)').choices([
        'snapshot',
        'kernel',
        'section',
        'image',
        'archive',
      ]),
    )
    .addOption(
      new Option('--htab-endian <order>', 'byte order of its block headers').choices([
        'little',
        'big',
      ]),
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
    .option('--bolted-only', 'keep the bolted entries only, as the kernel flag reads them')
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
        ['none', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'lz4', 'sparse'],
      ),
    )
    .option('--xml <file>', "the domain's XML for a libvirt image (default: the one it has)")
    .addOption(
      new Option('--running', 'let libvirt start the guest after a restore').conflicts('paused'),
    )
    .option('--paused', 'let libvirt leave the guest paused after a restore')
    .option('-f, --force', 'replace the output if it exists')
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
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
    .addOption(snapshot)
    .addOption(offset)
    .addOption(spoolLimit)
    .addOption(json)
    .action(async (file: string, options: CheckArguments) => {
      const { runCheck } = await import('./check.js');
      process.exitCode = await runCheck(file, options, signal);
    });
  return root;
}

async function main(argv: readonly string[]): Promise<number> {
  const controller = new AbortController();
  let received = 0;
  for (const [name, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.once(name, () => {
      received = 128 + number;
      controller.abort(new Error(`received ${name}`));
    });
  }
  // What is printed may go into a pipe that closes, or onto a full disk.
  process.stdout.on('error', (error: Error) => {
    process.stderr.write(`spapr-htab: cannot write to standard output: ${error.message}\n`);
    process.exitCode = 1;
  });
  try {
    await program(controller.signal).parseAsync(argv);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // Commander has printed help, the version or its complaint already.
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const json = argv.includes('--json');
    // Loaded here, so that help and the version are quick.
    const { exitCodeOf, report, reportUsage } = await import('./failure.js');
    if (error instanceof CommanderError) {
      if (json) reportUsage(error);
      return 2;
    }
    report(error, json);
    return received || exitCodeOf(error);
  }
}

process.exitCode = await main(process.argv);
