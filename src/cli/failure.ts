import {
  AbortedError,
  FormatError,
  IoError,
  LimitError,
  SpaprHtabError,
  UnsupportedError,
  UsageError,
} from '../index.js';
import { json, printable } from './text.js';

/** The exit code that an error ends the command with; the README lists them. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof IoError) return 1;
  if (error instanceof UsageError) return 2;
  if (error instanceof FormatError || error instanceof LimitError) return 3;
  if (error instanceof UnsupportedError) return 4;
  if (error instanceof AbortedError) return 130;
  return 1;
}

/** One line that a person can act on, or JSON. */
export function report(error: unknown, asJson: boolean): void {
  if (asJson) {
    const details =
      error instanceof SpaprHtabError
        ? error.toJSON()
        : { name: 'Error', code: 'E_INTERNAL', message: String(error) };
    process.stderr.write(`${json({ error: details })}\n`);
    return;
  }
  if (error instanceof SpaprHtabError) {
    process.stderr.write(`spapr-htab: ${printable(error.message)} [${error.code}]\n`);
    return;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const lines = text.split('\n').map(printable).join('\n');
  process.stderr.write(`spapr-htab: internal error, please report it: ${lines}\n`);
}

/** What the argument parser complained of, as JSON; for people it has said so itself. */
export function reportUsage(error: Error): void {
  report(new UsageError('E_USAGE', error.message, { cause: error }), true);
}
