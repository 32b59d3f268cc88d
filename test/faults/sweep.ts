import type { Fault, Operation } from './shim.js';
import type { Outcome, Stage } from './stage.js';

/** Those that take room on a device. */
const TAKING = 'create,write,pwrite,ftruncate,fallocate,fsync,close,rename,link,copy,clone';
/** Those that a signal may interrupt (signal(7)). */
const SLOW = 'open,create,read,pread,write,pwrite,ftruncate,fallocate,fsync,close,copy,clone';

interface Kind extends Omit<Fault, 'at'> {
  readonly name: string;
}

const kind = (name: string, how: string, on?: string, always?: boolean): Kind => ({
  ...{ name, how, always },
  on: on?.split(','),
});

export const KINDS: readonly Kind[] = [
  kind('EIO once', 'EIO'),
  kind('EIO from then on', 'EIO', undefined, true),
  kind('ENOSPC once', 'ENOSPC', TAKING),
  kind('ENOSPC from then on', 'ENOSPC', TAKING, true),
  kind('EINTR', 'EINTR', SLOW),
  kind('short', 'short', 'read,pread,write,pwrite,copy'),
  kind('short from then on', 'short', 'read,pread,write,pwrite,copy', true),
  kind('killed', 'kill'),
  kind('killed halfway', 'torn', 'write,pwrite,copy'),
];

export interface Point {
  readonly kind: string;
  readonly fault: Fault;
  /** What is hit there, as far as runs are alike. */
  readonly operation: Operation;
}

/** Every operation of a run with every kind of fault that it can have. */
export function pointsOf(operations: readonly Operation[]): Point[] {
  return KINDS.flatMap(({ name, ...rest }) => {
    const numbered = operations.filter(
      (one) => rest.on === undefined || rest.on.includes(one.name),
    );
    return numbered.map((operation, index) => ({
      kind: name,
      fault: { ...rest, at: index + 1 },
      operation,
    }));
  });
}

export interface Swept {
  readonly points: number;
  readonly outcomes: Readonly<Record<Outcome, number>>;
  /** What was wrong, and where. */
  readonly wrong: readonly string[];
}

/** Tries some points of a stage that was rehearsed. */
export async function sweep(
  stage: Stage,
  points: readonly Point[],
  onPoint?: (point: Point, wrong: readonly string[]) => void,
): Promise<Swept> {
  const outcomes = { done: 0, refused: 0, killed: 0 };
  const all: string[] = [];
  for (const point of points) {
    const { outcome, wrong } = await stage.try(point.fault);
    outcomes[outcome]++;
    const { name, path, details } = point.operation;
    const what = `${name} ${path.split('/').at(-1)} ${details}`;
    for (const words of wrong) all.push(`${point.kind} ${point.fault.at} (${what}): ${words}`);
    onPoint?.(point, wrong);
  }
  return { points: points.length, outcomes, wrong: all };
}
