// The C code, under AddressSanitizer and UndefinedBehaviorSanitizer: its pure half by libFuzzer, what receives by random messages,
// and the whole addon inside a varpd that is sent what the other targets have found.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { fromRoot } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { exec, findProgram, run } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';
import { readCorpus } from './corpus.js';
import { nameOf } from './engine.js';
import { target as datapath } from './targets/datapath.js';

export interface NativeReport {
  readonly inputs: number;
  readonly said: string;
  readonly failure?: string;
}

const directory = fromRoot('dist/fuzz');
const SANITIZERS = ['-g', '-O1', '-fno-omit-frame-pointer', '-fno-sanitize-recover=all'];
const failed = (text: string): string => `  ${text.split('\n').slice(-60).join('\n  ')}`;

/** src/dgram-extra/offload.c: cutting superframes, putting segments together. */
export async function fuzzOffload(seconds: number, seed: number): Promise<NativeReport> {
  mkdirSync(directory, { recursive: true });
  const program = path.join(directory, 'offload');
  const sources = ['test/fuzz/offload.c', 'src/dgram-extra/offload.c'].map(fromRoot);
  const flags = [...SANITIZERS, '-I', fromRoot('src/dgram-extra'), '-o', program, ...sources];
  const timeoutMs = (seconds + 60) * 1000;
  if (findProgram('clang') === undefined) {
    // Without libFuzzer: random frames, as many as there is time for.
    await exec([process.env['CC'] ?? 'cc', '-fsanitize=address,undefined', ...flags], { timeoutMs });
    const frames = Math.round(seconds * 200_000);
    const { code, stderr } = await run([program, `${seed}`, `${frames}`], { timeoutMs });
    return { inputs: frames, said: 'not guided (no clang)', ...(code !== 0 && { failure: failed(stderr) }) };
  }
  await exec(['clang', '-DLIBFUZZER', '-fsanitize=fuzzer,address,undefined', ...flags], { timeoutMs });
  const seeds = path.join(directory, 'offload-seeds');
  mkdirSync(seeds, { recursive: true });
  for (const input of [...readCorpus('offload'), ...readCorpus('datapath').map(asFrame)])
    writeFileSync(path.join(seeds, nameOf(input)), input);
  const limits = [
    `-max_total_time=${Math.ceil(seconds)}`,
    `-seed=${seed % 2 ** 31}`,
    '-max_len=4096',
    '-timeout=10',
  ];
  const command = [
    program,
    ...limits,
    '-print_final_stats=1',
    `-artifact_prefix=${directory}/offload-`,
    seeds,
  ];
  const { code, stderr } = await run(command, { timeoutMs });
  const inputs = Number(/number_of_executed_units: (\d+)/.exec(stderr)?.[1] ?? 0);
  const edges = /cov: (\d+)(?![\s\S]*cov: )/.exec(stderr)?.[1] ?? '?';
  return { inputs, said: `${edges} edges reached`, ...(code !== 0 && { failure: failed(stderr) }) };
}

/** src/dgram-extra/udp-receive.c: descriptors for many datagrams in one message. Not guided: random messages. */
export async function fuzzReceive(seconds: number, seed: number): Promise<NativeReport> {
  mkdirSync(directory, { recursive: true });
  const program = path.join(directory, 'receive');
  const sources = ['test/fuzz/receive.c', 'src/dgram-extra/offload.c'].map(fromRoot);
  const include = ['src/dgram-extra', 'node_modules/node-api-headers/include'].flatMap((name) => [
    '-I',
    fromRoot(name),
  ]);
  const flags = [...SANITIZERS, '-std=gnu11', '-DNAPI_VERSION=8', ...include, '-o', program, ...sources];
  const timeoutMs = (seconds + 60) * 1000;
  await exec([process.env['CC'] ?? 'cc', '-fsanitize=address,undefined', ...flags], { timeoutMs });
  let inputs = 0;
  for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs; inputs += 100_000) {
    const { code, stderr } = await run([program, `${seed + inputs}`, '100000'], { timeoutMs });
    if (code !== 0) return { inputs, said: '', failure: failed(stderr) };
  }
  return { inputs, said: 'not guided' };
}

/** An input of the datapath target as one of offload.c: a prefix that makes it a superframe, and the frame. */
function asFrame(input: Uint8Array): Uint8Array {
  const frame = input.subarray(3, 3 + 2047);
  const [length, type] = [Math.max(0, frame.length - 1), input[0] % 3];
  return Uint8Array.from([type, 100, 36, 30, 1, 0, length & 0xff, length >> 8, ...frame]);
}

// ---------------------------------------------------------------- the addon

const BLAST = fromRoot('dist/test/fuzz/blast.js');
const ADDON = fromRoot('dist/src/dgram-extra/dgram_extra.node');

/** Compiled for the sanitizers, and the library that has to be loaded first. */
async function buildAddon(): Promise<{ addon: string; runtime: string }> {
  mkdirSync(directory, { recursive: true });
  const addon = path.join(directory, 'dgram_extra.node');
  const files = readdirSync(fromRoot('src/dgram-extra'))
    .filter((name) => name.endsWith('.c'))
    .map((name) => fromRoot(`src/dgram-extra/${name}`));
  const include = ['-I', fromRoot('node_modules/node-api-headers/include'), '-DNAPI_VERSION=8'];
  const flags = [...SANITIZERS, '-std=gnu11', '-fPIC', '-shared', '-fsanitize=address,undefined', ...include];
  const compiler = process.env['CC'] ?? 'cc';
  await exec([compiler, ...flags, '-o', addon, ...files], { timeoutMs: 120_000 });
  const runtime = await Promise.all(
    ['libasan.so', 'libubsan.so'].map((name) => exec([compiler, `-print-file-name=${name}`])),
  );
  return { addon, runtime: runtime.map((name) => name.trim()).join(' ') };
}

/** A real varpd with that addon: mutated datagrams from its peer, mutated frames and offload headers from its own host. */
export async function fuzzAddon(seconds: number, seed: number): Promise<NativeReport> {
  const { addon, runtime } = await buildAddon();
  const bed = new Bed();
  try {
    const [a, b] = await bed.twoHosts();
    const daemon = await Daemon.start(bed, a, {
      before: `mount --bind ${addon} ${ADDON}`,
      env: {
        LD_PRELOAD: runtime,
        ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1:use_sigaltstack=0',
        UBSAN_OPTIONS: 'print_stacktrace=1',
      },
    });
    await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, '-p vxlan/accept=any'));
    await daemon.ok('create-vnic -l overlay0 -m 2:b1:b2:b3:b4:b foo0');
    await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
    await b.plumb('vx0');
    await a.plumb('overlay0');
    await a.ip('link set foo0 up');
    if (!(await reaches(a, b.overlay.v4, 10_000))) throw new Error('no answer through the tunnel');
    const inputs = path.join(bed.directory(), 'inputs.json');
    const frames = [...datapath.seeds(), ...readCorpus('datapath')];
    const corpus = frames.map((input) => Buffer.from(input).toString('hex'));
    writeFileSync(inputs, JSON.stringify(corpus));
    const timeoutMs = (seconds + 60) * 1000;
    const settings = (role: string, target: string): string =>
      JSON.stringify({ role, target, seconds, seed, inputs });
    const blast = (role: string, target: string): string[] => [
      process.execPath,
      BLAST,
      settings(role, target),
    ];
    const results = await Promise.all([
      b.run(blast('datagrams', a.underlay.v4), { timeoutMs }),
      a.run(blast('frames', 'overlay0'), { timeoutMs }),
    ]);
    const sent = results.map(({ stdout }) => Number(/"sent":(\d+)/.exec(stdout)?.[1] ?? 0));
    const complaints = /AddressSanitizer|runtime error/.test(daemon.log());
    const lives = daemon.running && (await reaches(a, b.overlay.v4, 10_000));
    const [overlay] = lives ? await daemon.overlays('overlay0') : [undefined];
    const counted =
      overlay === undefined ? 0 : Object.values(overlay.counters).reduce((sum, one) => sum + one, 0);
    return {
      inputs: sent[0] + sent[1],
      said: `${sent[0]} datagrams, ${sent[1]} frames, ${counted > 0 ? 'varpd lives' : 'varpd is gone'}`,
      ...((!lives || complaints) && { failure: failed(daemon.log()) }),
    };
  } finally {
    await bed.cleanup();
  }
}
