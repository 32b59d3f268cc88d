import { defineConfig } from 'vitest/config';

/** `npm run test:complexity`: each case runs in a process of its own, two at a time. */
export default defineConfig({
  test: {
    include: ['test/complexity/*.check.ts'],
    testTimeout: 120_000,
    maxConcurrency: 2,
  },
});
