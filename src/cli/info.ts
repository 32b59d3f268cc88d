import {
  type FileInfo,
  type HtabSummary,
  type InputFormat,
  inspect,
  type StreamInfo,
} from '../index.js';
import { containerRows, snapshotRows } from './containers.js';
import { exitCodeOf } from './failure.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { columns, count, json, printable, size } from './text.js';

export interface InfoArguments extends InputArguments {
  readonly devices?: boolean;
  readonly xml?: boolean;
}

/** `spapr-htab info`; resolves to the exit code. */
export async function runInfo(
  file: string,
  args: InfoArguments,
  signal: AbortSignal,
): Promise<number> {
  const info = await withInput(args, signal, (options) =>
    inspect(inputOf(file), { ...options, xml: args.xml }),
  );
  if (args.devices) {
    const { devicesOf } = await import('./devices.js');
    const devices = await withInput(args, signal, (options) => devicesOf(file, options));
    process.stdout.write(`${json({ ...info, devices }, 2)}\n`);
  } else if (args.json || args.xml) process.stdout.write(`${json(info, 2)}\n`);
  else process.stdout.write(`${lines(info).join('\n')}\n`);
  // A list of snapshots to choose from is an answer; a file that cannot be read is not.
  const listed = info.refusal?.code === 'E_SNAPSHOT' && args.snapshot === undefined;
  return info.refusal === undefined || listed ? 0 : exitCodeOf(info.refusal);
}

const TITLES: Readonly<Record<InputFormat, string>> = {
  snapshot: 'QEMU migration stream',
  kernel: 'kernel HTAB blocks',
  section: 'spapr/htab section payloads',
  image: 'flat HPT image',
  archive: 'MessagePack HPT archive',
};

function lines(info: FileInfo): string[] {
  const { format, stream, refusal } = info;
  const length = info.size === undefined ? 'a pipe' : size(info.size);
  const rows: [string, string][] = [['File', `${info.name}, ${length}`]];
  for (const layer of info.layers) rows.push(...containerRows(layer));
  if (format !== undefined) {
    const endian = info.byteOrder === undefined ? '' : `, ${info.byteOrder}-endian headers`;
    rows.push(['Format', `${TITLES[format]}${endian}`]);
    if (stream !== undefined) rows.push(...streamRows(stream));
    rows.push(['HPT', info.hpt === undefined ? 'none: no section spapr/htab' : hptLine(info.hpt)]);
  }
  const out = rows.map(([name, text]) => `${`${name}:`.padEnd(12)} ${printable(text)}`);
  out.push(...snapshotTable(info));
  if (stream !== undefined) out.push('', ...ramTable(stream), ...sectionTable(stream));
  for (const warning of info.warnings) {
    const at = warning.offset === undefined ? '' : ` (at byte ${warning.offset})`;
    out.push(printable(`warning: ${warning.message}${at}`));
  }
  if (refusal !== undefined)
    out.push(printable(`not opened: ${refusal.message} [${refusal.code}]`));
  return out;
}

function streamRows(stream: StreamInfo): [string, string][] {
  const { configuration, vmdesc } = stream;
  const rows: [string, string][] = [
    ['Machine', configuration?.machine ?? 'not recorded (pseries-2.3 or older)'],
  ];
  if (configuration !== undefined && configuration.capabilities.length > 0) {
    rows.push(['Capabilities', configuration.capabilities.join(', ')]);
  }
  const parts = [
    count(stream.sections.length, 'section'),
    stream.footers ? 'footers' : 'no footers',
    vmdesc === undefined ? 'no vmdescription' : `vmdescription of ${size(vmdesc.length)}`,
  ];
  for (const command of stream.commands) parts.push(`command ${command.name}`);
  rows.push(['Stream', parts.join(', ')]);
  return rows;
}

function hptLine(hpt: HtabSummary): string {
  if (hpt.radix) return `none: the guest runs in radix mode (-1 in ${count(hpt.parts, 'part')})`;
  const order =
    hpt.order === undefined
      ? 'order not recorded'
      : `order ${hpt.order} (${size(2 ** hpt.order)}, ${2 ** (hpt.order - 4)} slots)`;
  return (
    `${order}, ${hpt.valid} valid, ${hpt.bolted} bolted; ${count(hpt.blocks, 'block')} with ` +
    `${hpt.carried} entries in ${count(hpt.parts, 'part')}, ${hpt.passes} ` +
    (hpt.passes === 1 ? 'pass' : 'passes')
  );
}

function snapshotTable({ layers }: FileInfo): string[] {
  const rows = snapshotRows(layers);
  if (rows.length === 0) return [];
  const head = ['ID', 'snapshot', 'date', 'VM clock', 'VM state', 'disk size'];
  return ['', ...columns([head, ...rows.map((row) => row.map(printable))])];
}

function ramTable({ ram }: StreamInfo): string[] {
  if (ram.length === 0) return [];
  const head = ['RAM block', 'length', 'pages', 'zero', 'xbzrle', 'compressed', 'kept'];
  const rows = ram.map((block) => [
    printable(block.name),
    block.usedLength,
    block.pages,
    block.zeroPages,
    block.xbzrlePages,
    block.compressedPages,
    whereKept(block),
  ]);
  return [...columns([head, ...rows]), ''];
}

function whereKept(block: StreamInfo['ram'][number]): string {
  if (block.mapped !== undefined) return `at byte ${block.mapped.pagesOffset} (mapped-ram)`;
  const pages = block.pages + block.zeroPages + block.xbzrlePages + block.compressedPages;
  if (pages > 0) return 'in the stream';
  return block.address === undefined ? '' : 'left out (shared)';
}

function sectionTable({ sections }: StreamInfo): string[] {
  const head = ['id', 'section', 'instance', 'version', 'offset', 'length', 'parts'];
  const rows = sections.map((s) => {
    const parts = s.iterable ? s.parts.map((part) => part.kind[0]).join('') : '';
    const shown = parts.length > 12 ? `${parts.length}` : parts;
    return [s.id, printable(s.name), s.instance, s.version, s.offset, s.length, shown];
  });
  return [...columns([head, ...rows]), ''];
}
