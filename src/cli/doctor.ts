import { type DoctorReport, doctor } from '../index.js';
import { columns, json, printable } from './text.js';

/** `spapr-htab doctor`. */
export async function runDoctor(args: { readonly json?: boolean }, version: string): Promise<void> {
  const report = { version, ...(await doctor()) };
  if (args.json) process.stdout.write(`${json(report)}\n`);
  else process.stdout.write(`${text(report)}\n`);
}

function addonText({ path, reason }: DoctorReport['addon']): string {
  if (reason === undefined) return path ?? '';
  return `not loaded${path === undefined ? '' : ` from ${path}`}: ${reason}`;
}

function kvmText({ failure, apiVersion, htabFd }: DoctorReport['kvm']): string {
  if (failure !== undefined) return `not opened: ${failure}`;
  return `API version ${apiVersion}, KVM_CAP_PPC_HTAB_FD ${htabFd}`;
}

function text(report: DoctorReport & { readonly version: string }): string {
  const { version, platform, arch, endianness, kernel, node, addon, kvm, htabFd, programs } =
    report;
  const rows = [
    ['spapr-htab', version],
    ['system', `${platform} ${kernel}, ${arch}, ${endianness}-endian`],
    ['Node', node],
    ['addon', addonText(addon)],
    ['/dev/kvm', kvmText(kvm)],
    ['HTAB fd', htabFd.available ? htabFd.reason : `not here: ${htabFd.reason}`],
    ...programs.map((found) => [
      found.program,
      found.path ?? `not found; on Debian: apt-get install ${found.package}`,
    ]),
  ];
  return columns(rows)
    .map((line) => printable(line.trimEnd()))
    .join('\n');
}
