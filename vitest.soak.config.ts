import { defineConfig } from 'vitest/config'

/** `npm run soak`: what takes real time or much of the machine, with real processes; not part of `make test`. */
export default defineConfig({
  test: {
    include: ['test/soak/*.soak.ts'],
    testTimeout: 300_000,
    hookTimeout: 30_000,
    // One at a time: they measure memory and time.
    fileParallelism: false,
  },
})
