import Table from 'cli-table3';
import { type FileInfo, type HtabSummary, inspect, type StreamInfo } from '../index.js';
import { type InputArguments, inputOf, withInput } from './input.js';
import { count, printable, size } from './text.js';

export type InfoArguments = InputArguments;

/** `spapr-htab info`. */
export async function runInfo(
  file: string,
  args: InfoArguments,
  signal: AbortSignal,
): Promise<void> {
  const info = await withInput(args, signal, (options) => inspect(inputOf(file), options));
  if (args.json) process.stdout.write(`${JSON.stringify(info, null, 2)}\n`);
  else process.stdout.write(`${printable(lines(info).join('\n'))}\n`);
}

const TITLES: Readonly<Record<FileInfo['format'], string>> = {
  snapshot: 'QEMU migration stream',
  kernel: 'kernel HTAB blocks',
  section: 'spapr/htab section payloads',
  image: 'flat HPT image',
  archive: 'MessagePack HPT archive',
};

function lines(info: FileInfo): string[] {
  const rows: [string, string][] = [['File', info.name]];
  for (const layer of info.layers) rows.push(['Container', layer.kind]);
  const endian = info.byteOrder === undefined ? '' : `, ${info.byteOrder}-endian headers`;
  const length = info.size === undefined ? '' : `, ${size(info.size)}`;
  rows.push(['Format', `${TITLES[info.format]}${endian}${length}`]);
  if (info.stream !== undefined) rows.push(...streamRows(info.stream));
  rows.push(['HPT', info.hpt === undefined ? 'none: no section spapr/htab' : hptLine(info.hpt)]);
  const out = rows.map(([name, text]) => `${`${name}:`.padEnd(12)} ${text}`);
  if (info.stream !== undefined)
    out.push('', ...ramTable(info.stream), ...sectionTable(info.stream));
  for (const warning of info.warnings) {
    const at = warning.offset === undefined ? '' : ` (at byte ${warning.offset})`;
    out.push(`warning: ${warning.message}${at}`);
  }
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

const PLAIN = { style: { head: [], border: [] }, chars: borderless() };

function ramTable({ ram }: StreamInfo): string[] {
  if (ram.length === 0) return [];
  const head = ['RAM block', 'length', 'pages', 'zero', 'xbzrle', 'compressed', 'kept'];
  const table = new Table({ ...PLAIN, head });
  for (const block of ram) {
    const { pages, zeroPages, xbzrlePages, compressedPages } = block;
    const kept = block.mapped === undefined ? 'in the stream' : `at ${block.mapped.pagesOffset}`;
    table.push([
      block.name,
      block.usedLength,
      pages,
      zeroPages,
      xbzrlePages,
      compressedPages,
      kept,
    ]);
  }
  return [table.toString(), ''];
}

function sectionTable({ sections }: StreamInfo): string[] {
  const head = ['id', 'section', 'instance', 'version', 'offset', 'length', 'parts'];
  const table = new Table({ ...PLAIN, head });
  for (const s of sections) {
    const parts = s.iterable ? s.parts.map((part) => part.kind[0]).join('') : '';
    const shown = parts.length > 12 ? `${parts.length}` : parts;
    table.push([s.id, s.name, s.instance, s.version, s.offset, s.length, shown]);
  }
  return [table.toString(), ''];
}

function borderless(): Record<string, string> {
  const names = ['top', 'bottom', 'left', 'right', 'mid', 'top-mid', 'top-left', 'top-right'];
  const more = ['bottom-mid', 'bottom-left', 'bottom-right', 'left-mid', 'mid-mid', 'right-mid'];
  return { ...Object.fromEntries([...names, ...more].map((name) => [name, ''])), middle: ' ' };
}
