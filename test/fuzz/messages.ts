import type { Finding } from './finding.js';
import type { Figures } from './fuzzer.js';

/** What a worker is to do. */
export type Task =
  | {
      readonly type: 'fuzz';
      readonly parser: string;
      readonly seed: number;
      /** Both are limits: it ends with the first that is reached. */
      readonly inputs: number;
      readonly seconds: number;
      /** Findings after which it ends. */
      readonly most: number;
    }
  | {
      readonly type: 'replay';
      readonly parser: string;
      readonly variant: string;
      /** base64 */
      readonly bytes: string;
      readonly valid?: Finding['valid'];
    };

/** What a worker says. */
export type WorkerMessage =
  | { readonly type: 'ready' }
  | { readonly type: 'done' }
  /** The process ends in order before its task does: another one is to go on. */
  | { readonly type: 'retired' }
  | { readonly type: 'figures'; readonly figures: Figures }
  | { readonly type: 'finding'; readonly path: string | undefined; readonly finding: Finding };
