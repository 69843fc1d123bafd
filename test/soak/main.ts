// npm run soak -- --hours N
//
// 10,000 packets a second, a change of the mapping every 10 s, a VNIC made and deleted every minute, for so many hours.
// Status 1 when a daemon's resident memory grows by 1 MB an hour or more (garbage is collected once a minute), or its
// descriptors at all, or one packet in twenty is lost: on a machine with other work, a queue of 1,000 holds a tenth of a
// second. Memory is not judged by less than half an hour after the warm-up.
import { parseArgs } from 'node:util';

import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { soak } from './soak.js';

const USAGE = 'npm run soak -- --hours N    N above 0, 0.1 for six minutes (1)';
const MAX_SLOPE_MB_AN_HOUR = 1;
const MAX_LOST_SHARE = 0.05;
/** Of V8, whose memory grows with the number of changes and stands still after some 1,500. */
const WARM_UP_ROUNDS = 2000;
/** For V8 to give back what those have grown, which takes two minutes; of shorter runs, half. */
const WARM_UP_SECONDS = 600;
/** Half a MiB that malloc(3) keeps or gives back is a slope of MB an hour in a shorter run. */
const JUDGED_SECONDS = 1800;

function readHours(): number {
  try {
    const { values } = parseArgs({ options: { hours: { type: 'string', default: '1' } } });
    const hours = Number(values.hours);
    if (hours > 0 && hours <= 1000) return hours;
  } catch (error) {
    console.error((error as Error).message);
  }
  console.error(USAGE);
  process.exit(2);
}

const hours = readHours();
const missing = skipUnlessNetns();
if (missing !== false) {
  console.error(`soak ${missing}`);
  process.exit(2);
}
const seconds = Math.max(60, Math.round((hours * 3600) / 60) * 60);
const warmUpSeconds = Math.min(WARM_UP_SECONDS, seconds / 2);
console.log(
  `${WARM_UP_ROUNDS} changes and VNICs, then ${seconds} s, of which the first ${warmUpSeconds} s are not judged`,
);
const bed = new Bed();
try {
  const result = await soak(bed, {
    seconds,
    warmUpRounds: WARM_UP_ROUNDS,
    warmUpSeconds,
    onSample: ({ host, mac }, { seconds, residentKib, descriptors }) => {
      if (seconds % 60 !== 0) return;
      const mib = (residentKib / 1024).toFixed(1);
      console.log(
        `${`${seconds} s`.padStart(8)}  ${host.index} ${mac}  ${mib} MiB  ${descriptors} descriptors`,
      );
    },
  });
  const { slopeMbAnHour, errorMbAnHour, descriptorsGrown, sent, received, changes, vnics } = result;
  const lost = sent - received;
  console.log(`${sent} packets sent, ${lost} lost; ${changes} changes of the mapping, ${vnics} VNICs`);
  console.log(
    `RSS ${slopeMbAnHour.toFixed(2)} MB an hour (standard error ${errorMbAnHour.toFixed(2)}), descriptors ${descriptorsGrown}`,
  );
  const isLong = seconds - warmUpSeconds >= JUDGED_SECONDS;
  if (!isLong) console.log('too short to judge memory by');
  const isGood =
    (!isLong || slopeMbAnHour < MAX_SLOPE_MB_AN_HOUR) &&
    descriptorsGrown <= 0 &&
    lost <= sent * MAX_LOST_SHARE;
  console.log(isGood ? 'steady' : 'NOT steady');
  process.exitCode = isGood ? 0 : 1;
} finally {
  await bed.cleanup();
}
