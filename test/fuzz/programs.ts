// The programs in C beside this file: each runs a part of the native layer on inputs, without Node, for a compiler that watches
// memory. `program SEED INPUTS` where nothing guides it.
import path from 'node:path';

import { fromRoot } from '../helpers/need.js';
import { run, type Result } from '../helpers/process.js';

export const PROGRAMS = ['offload', 'receive', 'errors', 'send', 'tap', 'device'] as const;
export type Program = (typeof PROGRAMS)[number];

export const SANITIZERS = ['-g', '-O1', '-fno-omit-frame-pointer', '-fno-sanitize-recover=all', '-std=gnu11'];
export const INCLUDE = ['-DNAPI_VERSION=8', '-I', fromRoot('node_modules/node-api-headers/include')];

/** Compiles one into a directory. With libFuzzer, which needs clang, it is guided by coverage. */
export async function compileProgram(
  name: Program,
  directory: string,
  isGuided: boolean,
): Promise<{ readonly program: string; readonly result: Result }> {
  const program = path.join(directory, name);
  const compiler = isGuided ? 'clang' : (process.env['CC'] ?? 'cc');
  const how = isGuided
    ? ['-DLIBFUZZER', '-fsanitize=fuzzer,address,undefined']
    : ['-fsanitize=address,undefined'];
  const sources = [`test/fuzz/${name}.c`, 'src/dgram-extra/offload.c', 'src/dgram-extra/offload-join.c'].map(
    fromRoot,
  );
  const include = ['-I', fromRoot('src/dgram-extra'), ...INCLUDE];
  const command = [compiler, ...how, ...SANITIZERS, ...include, '-o', program, ...sources];
  return { program, result: await run(command, { timeoutMs: 120_000 }) };
}
