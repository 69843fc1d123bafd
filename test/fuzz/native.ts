// The C code, under AddressSanitizer and UndefinedBehaviorSanitizer: parts of it by libFuzzer (programs.ts), and the whole addon
// inside a varpd that is sent what the other targets have found.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { fromRoot } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { CommandError, exec, findProgram, run } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';
import { readCorpus, writeCorpus } from './corpus.js';
import { nameOf } from './engine.js';
import { compileProgram, INCLUDE, SANITIZERS, type Program } from './programs.js';
import { target as datapath } from './targets/datapath.js';

export interface NativeReport {
  readonly inputs: number;
  readonly said: string;
  readonly failure?: string;
}

const directory = fromRoot('dist/fuzz');
/** Inputs a run, where nothing guides them. */
const UNGUIDED = 100_000;
const failed = (text: string): string => `  ${text.split('\n').slice(-60).join('\n  ')}`;

/** A program for one part of the layer: its inputs are what the corpus has, and what libFuzzer makes of them. */
export async function fuzzProgram(
  name: Program,
  seconds: number,
  seed: number,
  save: boolean,
): Promise<NativeReport> {
  mkdirSync(directory, { recursive: true });
  const isGuided = findProgram('clang') !== undefined;
  const { program, result } = await compileProgram(name, directory, isGuided);
  if (result.code !== 0) throw new CommandError(result);
  const timeoutMs = (seconds + 60) * 1000;
  if (!isGuided) {
    let inputs = 0;
    for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs; inputs += UNGUIDED) {
      const { code, stderr } = await run([program, `${seed + inputs}`, `${UNGUIDED}`], { timeoutMs });
      if (code !== 0) return { inputs, said: '', failure: failed(stderr) };
    }
    return { inputs, said: 'not guided (no clang)' };
  }
  const seeds = path.join(directory, `${name}-seeds`);
  mkdirSync(seeds, { recursive: true });
  const frames = name === 'offload' ? readCorpus('datapath').map(asFrame) : [];
  for (const input of [...readCorpus(name), ...frames]) writeFileSync(path.join(seeds, nameOf(input)), input);
  const command = [
    program,
    `-max_total_time=${Math.ceil(seconds)}`,
    `-seed=${seed % 2 ** 31}`,
    '-max_len=4096',
    '-timeout=10',
    '-print_final_stats=1',
    `-artifact_prefix=${directory}/${name}-`,
    seeds,
  ];
  const { code, stderr, timedOut } = await run(command, { timeoutMs });
  const [, last = '0', edges = '?'] = /^#(\d+)\t.*cov: (\d+)(?![\s\S]*^#\d+\t.*cov: )/m.exec(stderr) ?? [];
  const inputs = Number(/number_of_executed_units: (\d+)/.exec(stderr)?.[1] ?? last);
  const said = `${edges} edges reached`;
  // It ends by itself, unless it was stopped, or got no processor.
  if (timedOut) return { inputs, said, failure: `  ${program} went on for more than ${timeoutMs / 1000} s` };
  if (code !== 0) return { inputs, said, failure: failed(stderr) };
  const saved = save ? `, saved ${writeCorpus(name, await minimisedSeeds(program, seeds, timeoutMs))}` : '';
  return { inputs, said: said + saved };
}

/** Those of the seeds that reach all that the whole does. */
async function minimisedSeeds(program: string, seeds: string, timeoutMs: number): Promise<Uint8Array[]> {
  const minimised = `${seeds}-minimised`;
  rmSync(minimised, { recursive: true, force: true });
  mkdirSync(minimised);
  await exec([program, '-merge=1', minimised, seeds], { timeoutMs });
  return readdirSync(minimised).map((file) => readFileSync(path.join(minimised, file)));
}

/** An input of the datapath target as one of offload.c: a prefix that makes it a superframe, and the frame. */
function asFrame(input: Uint8Array): Uint8Array {
  const frame = input.subarray(3, 3 + 2047);
  const [length, type] = [Math.max(0, frame.length - 1), input[0] % 3];
  return Uint8Array.from([type, 100, 36, 30, 1, 0, length & 0xff, length >> 8, ...frame]);
}

// ---------------------------------------------------------------- the addon

const BLAST = fromRoot('dist/test/fuzz/blast.js');
const ADDON = fromRoot(`dist/src/dgram-extra/dgram_extra-${process.arch}.node`);

/** Compiled for the sanitizers, and the library that has to be loaded first. */
async function buildAddon(): Promise<{ addon: string; runtime: string }> {
  mkdirSync(directory, { recursive: true });
  const addon = path.join(directory, path.basename(ADDON));
  const files = readdirSync(fromRoot('src/dgram-extra'))
    .filter((name) => name.endsWith('.c'))
    .map((name) => fromRoot(`src/dgram-extra/${name}`));
  const flags = [...SANITIZERS, '-fPIC', '-shared', '-fsanitize=address,undefined', ...INCLUDE];
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
