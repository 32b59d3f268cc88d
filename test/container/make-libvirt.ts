export interface LibvirtRecipe {
  readonly magic?: string;
  readonly byteOrder?: 'little' | 'big';
  readonly version?: number;
  readonly wasRunning?: number;
  readonly format?: number;
  readonly xml?: string;
  readonly cookie?: string;
  readonly padding?: number;
  /** Instead of the true values. */
  readonly dataLength?: number;
  readonly cookieOffset?: number;
  readonly stream?: Uint8Array;
}

/** A libvirt save image: header of 92 bytes, XML, cookie, padding, stream. */
export function makeLibvirt(recipe: LibvirtRecipe = {}): Buffer {
  const xml = Buffer.from(`${recipe.xml ?? '<domain type="kvm"/>'}\0`);
  const cookie = recipe.cookie === undefined ? Buffer.alloc(0) : Buffer.from(`${recipe.cookie}\0`);
  const data = Buffer.concat([xml, cookie, Buffer.alloc(recipe.padding ?? 13)]);
  const header = Buffer.alloc(92);
  header.write(recipe.magic ?? 'LibvirtQemudSave', 0, 'latin1');
  const fields = [
    recipe.version ?? 2,
    recipe.dataLength ?? data.length,
    recipe.wasRunning ?? 1,
    recipe.format ?? 0,
    recipe.cookieOffset ?? (recipe.cookie === undefined ? 0 : xml.length),
  ];
  fields.forEach((value, index) => {
    if (recipe.byteOrder === 'big') header.writeUInt32BE(value, 16 + index * 4);
    else header.writeUInt32LE(value, 16 + index * 4);
  });
  return Buffer.concat([header, data, recipe.stream ?? Buffer.alloc(0)]);
}
