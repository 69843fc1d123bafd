#!/usr/bin/env node
/** The command `dladm`. */
import { dladm } from './dladm.js';

// A reader that closes the pipe early (`dladm show-overlay | head`) is no error; a full disk is.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  process.stderr.write(`dladm: cannot write the output: ${error.message}\n`);
  process.exit(1);
});

// Not process.exit(), since output to a pipe may still be on its way.
process.exitCode = await dladm(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  env: process.env,
});
