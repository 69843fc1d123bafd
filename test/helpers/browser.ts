// Chromium of the system, driven by playwright-core, and what a test wants of it.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Test } from 'tap';
import type { Namespace } from './netns.js';
import { findProgram } from './process.js';

/** In a namespace. Ends with the test. */
export async function openBrowser(
  t: Test,
  host: Pick<Namespace, 'name'>,
  directory: string,
): Promise<Browser> {
  const program = path.join(directory, 'chromium');
  writeFileSync(program, `#!/bin/sh\nexec ip netns exec ${host.name} ${findProgram('chromium')} "$@"\n`, {
    mode: 0o755,
  });
  const browser = await chromium.launch({
    executablePath: program,
    // As root, and without a GPU.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
    timeout: 120_000,
  });
  t.teardown(() => browser.close());
  return browser;
}

/** Violations of WCAG 2 A and AA that axe-core finds in the page, each in a line. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  const file = fileURLToPath(import.meta.resolve('axe-core/axe.min.js'));
  // The policy of the page lets no script in; evaluate() is not subject to it.
  await page.evaluate(readFileSync(file, 'utf8'));
  return page.evaluate(async () => {
    interface Violation {
      readonly id: string;
      readonly help: string;
      readonly nodes: readonly { readonly html: string }[];
    }
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: readonly Violation[] }> };
    };
    const { violations } = await axe.run();
    return violations.map(
      ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`,
    );
  });
}
