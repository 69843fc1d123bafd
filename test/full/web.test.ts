// The live page in a real Chromium: what it shows, how it is used, and which requests are refused.
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { request as ask } from 'node:http';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { Page } from 'playwright-core';
import { accessibilityProblems, openBrowser } from '../helpers/browser.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { filesOverlay, MappingFile } from '../helpers/zlan.js';

const skip = skipUnlessNetns();
const skipBrowser = skip || skipUnless({ programs: ['chromium'] });
const WEB = '127.0.0.1:9570';
/** Where a person who wants to look at them finds the pictures of the pages. */
const PICTURES = process.env['VARPD_PICTURES'];

async function site(t: Test, config: Readonly<Record<string, unknown>> = { web: WEB }) {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  // A frame to a peer without a varpd is trouble.
  await a.quietNewDevices();
  const daemon = (await Daemon.start(bed, a, { config, withoutRoot: true })).explain(t);
  await served(daemon);
  return { bed, a, b, daemon };
}

/** varpd answers on its control socket a moment before. */
async function served(daemon: Daemon): Promise<void> {
  await waitUntil(() => daemon.log().includes('the live page is served on'), { what: 'the page' });
}

async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES !== undefined)
    await page.screenshot({ path: path.join(PICTURES, `${name}.png`), fullPage: true });
}

async function opened(
  t: Test,
  { bed, a }: { bed: Bed; a: Namespace },
  options = {},
): Promise<{ page: Page; errors: string[] }> {
  const browser = await openBrowser(t, a, bed.directory());
  const page = await browser.newPage(options);
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  page.setDefaultTimeout(60_000);
  await page.goto(`http://${WEB}/`);
  return { page, errors };
}

await t.test('the page says what there is, and what changes', { skip: skipBrowser }, async (t) => {
  const host = await site(t);
  const { bed, a, b, daemon } = host;
  const mapping = new MappingFile(bed);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok(filesOverlay(a, mapping, { name: 'files0', more: '-p vxlan/listen_port=4790' }));
  const { page, errors } = await opened(t, host);
  await page.getByText('None.').waitFor();
  await page.getByRole('region', { name: 'overlay0' }).getByText('ONLINE').waitFor();
  await page.getByRole('region', { name: 'overlay0' }).getByText('2 ports, 1 peer').waitFor();
  await page.locator('.peer text', { hasText: b.underlay.v4 }).first().waitFor();
  await picture(page, 'light');
  t.same(await accessibilityProblems(page), [], 'WCAG 2 A and AA, light');
  await page.emulateMedia({ colorScheme: 'dark' });
  t.same(await accessibilityProblems(page), [], 'dark');
  await picture(page, 'dark');

  mapping.rewrite('{');
  await page.locator('.trouble').getByText('files0 is DEGRADED').waitFor();
  t.match(await page.title(), /^\(1\) varpd on /, 'the title counts them');
  mapping.rewrite(JSON.stringify(mapping.article));
  await page.getByText('None.').waitFor();

  await page.getByRole('region', { name: 'Targets' }).getByLabel('Overlay').selectOption('files0');
  await daemon.ok(`modify-overlay -s 02:00:00:00:00:77=${b.underlay.v4}:4790 files0`);
  await page.getByRole('cell', { name: '02:00:00:00:00:77' }).waitFor();
  await daemon.ok('modify-overlay -s 02:00:00:00:00:78=drop files0');
  await page.getByRole('cell', { name: '02:00:00:00:00:78' }).waitFor();
  await page.getByLabel('Search').fill('DROP');
  await page.getByText('1 target', { exact: true }).waitFor();
  t.equal(await page.getByRole('cell', { name: '02:00:00:00:00:77' }).count(), 0);
  await page.getByLabel('Search').fill('');
  await daemon.ok('modify-overlay -f files0');
  await page.getByText('0 targets', { exact: true }).waitFor();

  const form = page.getByRole('region', { name: 'Explain' });
  await form.getByLabel('Overlay').selectOption('overlay0');
  await form.getByLabel('To (MAC or IP address)').fill('02:00:00:00:00:99');
  await form.getByLabel('To (MAC or IP address)').press('Enter');
  await form.getByText('pass', { exact: true }).waitFor();
  t.match(await form.innerText(), new RegExp(b.underlay.v4), 'where it would go');
  await picture(page, 'explained');
  await form.getByLabel('To (MAC or IP address)').fill('nonsense');
  await form.getByRole('button').click();
  await form.getByText(/nonsense/).waitFor();

  await page.getByRole('region', { name: 'Log' }).getByText('where the page has a token').waitFor();

  // By the keyboard alone, from the top.
  await page.reload();
  await page.getByText('None.').waitFor();
  await page.keyboard.press('Tab');
  t.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the troubles');
  await page.keyboard.press('Enter');
  t.equal(await page.evaluate('location.hash'), '#trouble');

  await page.setViewportSize({ width: 360, height: 700 });
  const overhang = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
  t.ok(overhang <= 0, `nothing beyond the edge of a narrow screen: ${overhang}`);
  await picture(page, 'narrow');

  // Errors of the console so far: the answer to nonsense, and no violation of the policy.
  t.same(
    errors.filter((text) => !text.includes('409')),
    [],
  );
  const before = await page.getByText(/since /).innerText();
  await daemon.ok('restart');
  const isNext = async (): Promise<boolean> => (await page.getByText(/since /).innerText()) !== before;
  await waitUntil(isNext, { what: 'the next varpd on the page' });
  await page.getByText('None.').waitFor();
  await daemon.stop();
  await page.locator('.trouble').getByText('The page has lost its connection').waitFor();
  await daemon.start();
  await page.getByText('None.').waitFor();
  await page.getByRole('region', { name: 'overlay0' }).getByText('ONLINE').waitFor();
});

await t.test('the log, on a page with a token', { skip: skipBrowser }, async (t) => {
  const secrets = new Bed();
  t.teardown(() => secrets.cleanup());
  const directory = secrets.directory();
  writeFileSync(path.join(directory, 'page'), 'sesame\n');
  const host = await site(t, { web: WEB, webToken: 'page', secrets: directory });
  const { a, b, daemon } = host;
  const { page } = await opened(t, host, { extraHTTPHeaders: { Authorization: 'Bearer sesame' } });
  const log = page.getByRole('region', { name: 'Log' });
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await log.getByText(/create-overlay .* overlay0/).waitFor();
  await daemon.dladm('set-overlayprop', '-p', 'mtu=9', 'overlay0');
  await log.getByText(/set-overlayprop -p mtu=9/).waitFor();
  const first = log.locator('li').first();
  t.match(await first.innerText(), /warn .*set-overlayprop/, 'the newest comes first');
  await log.getByLabel('Level').selectOption('warn');
  t.equal(await log.getByText(/create-overlay .* overlay0/).count(), 0, 'only warnings and errors');
  await log.getByText(/set-overlayprop -p mtu=9/).waitFor();
  t.same(await accessibilityProblems(page), [], 'WCAG 2 A and AA');
  await page.setViewportSize({ width: 360, height: 700 });
  const overhang = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
  t.ok(overhang <= 0, `nothing beyond the edge of a narrow screen: ${overhang}`);
  await picture(page, 'log');
});

await t.test('200 peers and 10,000 targets', { skip: skipBrowser }, async (t) => {
  const host = await site(t);
  const { bed, a, daemon } = host;
  await daemon.ok(filesOverlay(a, new MappingFile(bed)));
  const mac = (n: number): string =>
    `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`;
  // As many at a time as there are places for clients.
  for (let from = 0; from < 10_000; from += 40)
    await Promise.all(
      Array.from({ length: 40 }, (_, index) => from + index).map((n) => {
        // Not the address of this host.
        const last = (n % 200) + 20;
        const destination = `10.88.88.${last < 69 ? last : last + 1}:4789`;
        return daemon.call('overlay.setTarget', { name: 'overlay0', mac: mac(n), destination });
      }),
    );
  const { page } = await opened(t, host);
  await waitUntil(async () => (await page.locator('.topology .peer').count()) === 200, { what: '200 peers' });
  await picture(page, 'many');
  await page.getByText('10000 targets', { exact: true }).waitFor();
  const rows = await page.locator('.rows tbody tr').count();
  t.ok(rows > 20 && rows < 80, `${rows} rows of the table are in the document`);
  // The longest time without a frame while the table is scrolled through and searched.
  const slowestMs = await page.evaluate<number>(`(async () => {
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const box = document.querySelector('.rows');
    let slowest = 0;
    let before = await frame();
    for (let step = 0; step < 100; step++) {
      box.scrollTop = (box.scrollHeight * step) / 100;
      const now = await frame();
      slowest = Math.max(slowest, now - before);
      before = now;
    }
    return slowest;
  })()`);
  t.comment(`the slowest of 100 frames while scrolling: ${slowestMs.toFixed(0)} ms`);
  await page.getByLabel('Search').fill(mac(9_999));
  await page.getByText('1 target', { exact: true }).waitFor();
  await page.getByRole('cell', { name: mac(9_999) }).waitFor();
  const cpu = async (): Promise<number> => {
    const before = daemon.cpuSeconds();
    await page.waitForTimeout(20_000);
    return ((daemon.cpuSeconds() - before) / 20) * 100;
  };
  const open = await cpu();
  await page.goto('about:blank');
  const shut = await cpu();
  t.comment(`of a core: ${open.toFixed(2)} % with the page open, ${shut.toFixed(2)} % without`);
});

// -- Requests

interface Got {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Over the Unix socket of the page, with headers of any kind. */
function get(
  socketPath: string,
  place: string,
  headers: Record<string, string> = {},
  method = 'GET',
  body = '',
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const request = ask({ socketPath, path: place, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (place.startsWith('/events')) request.destroy();
      });
      response.on('close', () => {
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

await t.test('a Unix socket: files, events, tables, and refusals', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = new Daemon(bed, a, { withoutRoot: true });
  const web = path.join(daemon.directory, 'web.sock');
  daemon.writeConfig({ web });
  await daemon.start();
  daemon.explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await served(daemon);
  t.equal(statSync(web).mode & 0o777, 0o660);
  const page = await get(web, '/');
  t.match(page, { status: 200, text: /<script type="module" src="\/page.js">/ });
  t.match(page.headers['content-security-policy'], /^default-src 'none'; script-src 'self'; /);
  t.notMatch((await get(web, '/page.js')).text, /https?:\/\/(?!www\.w3\.org)/, 'nothing from elsewhere');
  await waitUntil(async () => (await get(web, '/events')).text.includes('"overlay0"'), {
    what: 'the overlay',
  });
  const { text } = await get(web, '/events');
  t.match(text, /^event: snapshot\ndata: \{/);
  t.match(JSON.parse((await get(web, '/targets?overlay=overlay0')).text), {
    overlay: 'overlay0',
    isCut: false,
    rows: [['*:*:*:*:*:*', 'valid']],
  });
  t.match(await get(web, '/targets?overlay=none0'), { status: 409, text: /none0|not found/ });
  const json = { 'content-type': 'application/json' };
  const question = JSON.stringify({ name: 'overlay0', destination: '02:00:00:00:00:01' });
  t.match(await get(web, '/explain', json, 'POST', question), { status: 200, text: /"outcome":"pass"/ });
  t.match(await get(web, '/explain', json, 'POST', '{"name":'), { status: 400 });
  t.match(await get(web, '/explain', json, 'POST', '[]'), { status: 409 });
  t.match(
    await get(web, '/explain', {}, 'POST', question),
    { status: 405 },
    'as a form of another site would',
  );
  t.match(await get(web, '/explain', { ...json, origin: 'http://evil.example' }, 'POST', question), {
    status: 403,
  });
  t.match(await get(web, '/events', { 'sec-fetch-site': 'cross-site' }), { status: 403 });
  t.match(await get(web, '/', { 'sec-fetch-site': 'cross-site' }), { status: 200 }, 'a link may lead here');
  for (const method of ['POST', 'PUT', 'DELETE']) t.match(await get(web, '/', {}, method), { status: 405 });
  for (const place of ['/../package.json', '/index.html', '/constructor', '/metrics'])
    t.match(await get(web, place), { status: 404 }, place);
  await daemon.stop();
  t.notOk(readdirSync(daemon.directory).includes('web.sock'), 'the socket goes');
});

await t.test('a token, names of this host, and addresses that are refused', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a] = await bed.twoHosts();
  const daemon = new Daemon(bed, a, { withoutRoot: true });
  const secrets = bed.directory();
  writeFileSync(path.join(secrets, 'page'), 'sesame\n');
  const web = `${a.underlay.v4}:9570`;
  daemon.writeConfig({ web });
  await t.rejects(daemon.start(), /web: .*loopback.*webToken/, 'not without a token');
  daemon.writeConfig({ web, webToken: 'page', secrets, metricsHosts: ['box.example'] });
  await daemon.start();
  daemon.explain(t);
  await served(daemon);
  const status = async (place: string, ...headers: string[]): Promise<number> => {
    const [host, port] = web.split(':');
    const given = headers.map((header) => header.split(': ', 2));
    const script = `require('node:http').get({ host: '${host}', port: ${port}, path: '${place}', headers: Object.fromEntries(${JSON.stringify(given)}) }, (r) => { console.log(r.statusCode, r.headers['set-cookie'] ?? ''); process.exit(); })`;
    const { stdout } = await a.run([process.execPath, '-e', script]);
    if (stdout.includes('303')) t.match(stdout, /varpd_token=sesame; HttpOnly; SameSite=Strict/);
    return Number(stdout.split(' ')[0]);
  };
  t.equal(await status('/'), 401);
  t.equal(await status('/?token=wrong'), 401);
  t.equal(await status('/events?token=sesame'), 401, 'only where it leads to a cookie');
  t.equal(await status('/?token=sesame'), 303);
  t.equal(await status('/', 'Cookie: varpd_token=sesame'), 200);
  t.equal(await status('/', 'Cookie: varpd_token=%E0%A4%A'), 401);
  t.equal(await status('/', 'Authorization: Bearer sesame'), 200);
  t.equal(await status('/', 'Authorization: Bearer sesame', 'Host: box.example:9570'), 200);
  t.equal(await status('/', 'Authorization: Bearer sesame', 'Host: evil.example'), 421, 'DNS rebinding');
  t.notMatch(daemon.log(), /sesame/);
});
