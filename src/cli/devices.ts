import { deviceToJSON, inspectDevices, type OpenOptions, UsageError } from '../index.js';

/** Device state as plain data; see deviceToJSON for its form. */
export async function devicesOf(file: string, options: OpenOptions): Promise<unknown[]> {
  if (file === '-') {
    throw new UsageError('E_USAGE', 'with --devices the input is read twice; give a file');
  }
  const devices: unknown[] = [];
  for await (const { section, tree, reason, ...place } of inspectDevices(file, options)) {
    devices.push({ ...section, ...place, reason, ...(tree && { device: deviceToJSON(tree) }) });
  }
  return devices;
}
