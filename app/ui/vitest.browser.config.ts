import { defineConfig } from 'vitest/config';

// In Chromium against a daemon: one file after the other, each with a daemon of its own.
export default defineConfig({
  test: {
    environment: 'node',
    include: ['e2e/**/*.test.ts'],
    globalSetup: 'e2e/needs.ts',
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 120_000,
    // A busy machine takes its time.
    expect: { poll: { timeout: 60_000 } },
  },
});
