import type { Case } from './case.js';
import { htabCases } from './htab-cases.js';
import { otherCases } from './other-cases.js';
import { streamCases } from './stream-cases.js';

export const CASES: readonly Case[] = [...htabCases, ...streamCases, ...otherCases];
