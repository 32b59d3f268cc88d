import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import * as v from 'valibot';

const FOLDER = new URL('../../fixtures/', import.meta.url);

const FixtureSchema = v.looseObject({
  file: v.string(),
  format: v.picklist(['snapshot', 'kernel', 'section-elements', 'container']),
  bytes: v.number(),
  sha256: v.pipe(v.string(), v.length(64)),
  order: v.nullable(v.number()),
  description: v.string(),
});

const Sha256Schema = v.pipe(v.string(), v.length(64));
/** Of a qcow2 image by name of the snapshot. */
const ByNameSchema = v.union([Sha256Schema, v.record(v.string(), Sha256Schema)]);
const ContainerSchema = v.looseObject({
  ...FixtureSchema.entries,
  format: v.literal('container'),
  container: v.picklist(['stream', 'qcow2', 'libvirt']),
  machine: v.string(),
  cpu: v.string(),
  commandLine: v.optional(v.array(v.string())),
  offset: v.optional(v.number(), 0),
  snapshots: v.optional(
    v.array(v.object({ id: v.string(), name: v.string(), vmStateSize: v.number() })),
    [],
  ),
  sectionSha256: ByNameSchema,
  ramSha256: v.optional(ByNameSchema),
  holds: v.optional(
    v.object({
      pages: v.optional(v.picklist(['xbzrle', 'compressed', 'mapped', 'shared'])),
      sections: v.optional(v.array(v.string()), []),
    }),
    {},
  ),
});
export type ContainerFixture = v.InferOutput<typeof ContainerSchema>;

const ManifestSchema = v.object({ version: v.literal(1), fixtures: v.array(FixtureSchema) });
export type Fixture = v.InferOutput<typeof FixtureSchema>;

export const FIXTURES: readonly Fixture[] = v.parse(
  ManifestSchema,
  JSON.parse(readFileSync(new URL('manifest.json', FOLDER), 'utf8')),
).fixtures;

/** The entries of format `container`: files of one stream or more. */
export const CONTAINERS: readonly ContainerFixture[] = FIXTURES.filter(
  ({ format }) => format === 'container',
).map((fixture) => v.parse(ContainerSchema, fixture));

export function fixtureUrl(file: string): URL {
  return new URL(file, FOLDER);
}

const cache = new Map<string, Buffer>();

/** The content of a fixture, checked against the manifest. */
export function load(fixture: Fixture): Buffer {
  const cached = cache.get(fixture.file);
  if (cached !== undefined) return cached;
  const bytes = gunzipSync(readFileSync(fixtureUrl(fixture.file)));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (bytes.length !== fixture.bytes || sha256 !== fixture.sha256) {
    throw new Error(`${fixture.file} is not what the manifest says`);
  }
  cache.set(fixture.file, bytes);
  return bytes;
}

export function fixturesOf(format: Fixture['format']): Fixture[] {
  return FIXTURES.filter((fixture) => fixture.format === format);
}

export function fixture(file: string): Fixture {
  const found = FIXTURES.find((candidate) => candidate.file === file);
  if (found === undefined) throw new Error(`no fixture ${file} in the manifest`);
  return found;
}
