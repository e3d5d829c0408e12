import { defineConfig } from 'vitest/config';
import browser from './vitest.browser.config.ts';

// Apart from the other tests in a browser: it takes packages of its own.
export default defineConfig({ test: { ...browser.test, include: ['e2e/lighthouse.audit.ts'], testTimeout: 600_000 } });
