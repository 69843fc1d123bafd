#!/usr/bin/env node
/** The program `varpd-cni`: puts containers on overlays of varpd, for engines that speak CNI. */
import { varpdCni } from './varpd-cni.js';

varpdCni({
  env: process.env,
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
}).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  },
);
