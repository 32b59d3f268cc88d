import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('reference/', import.meta.url));

export const REFERENCES = ['run', 'reframe', 'walk', 'fold'] as const;
export type Reference = (typeof REFERENCES)[number];
export type References = Readonly<Record<Reference, string>>;

const FLAGS = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror'];

/**
 * Compiles the programs that cases are compared with; their paths.
 * @throws Error where there is no C compiler, or it finds fault
 */
export function compileReferences(folder: string): References {
  mkdirSync(folder, { recursive: true });
  const paths = REFERENCES.map((name) => {
    const path = join(folder, name);
    const args = [...FLAGS, '-o', path, join(SOURCES, `${name}.c`)];
    try {
      execFileSync(process.env.CC ?? 'cc', args, { stdio: ['ignore', 'inherit', 'inherit'] });
    } catch (cause) {
      throw new Error('the programs to compare with want a C compiler (cc): apt-get install gcc', {
        cause,
      });
    }
    return [name, path];
  });
  return Object.fromEntries(paths) as References;
}

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** The command line of this package, as it is installed. */
export function ours(...args: string[]): string[] {
  return [process.execPath, CLI, ...args];
}

/** @throws Error unless the package is built */
export function requireBuild(): void {
  if (statSync(CLI, { throwIfNoEntry: false }) === undefined) {
    throw new Error('there is no dist/: npm run build');
  }
}

/** @throws Error that says what to install, unless a program of that name can be started */
export function requireProgram(name: string): void {
  if (spawnSync(name, ['--version'], { stdio: 'ignore' }).error !== undefined) {
    throw new Error(`${name} is not installed: apt-get install ${name}`);
  }
}
