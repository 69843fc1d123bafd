/**
 * The process of a stand-in (stand-in.ts). It has copies of the descriptors of the varpd that started it, a
 * channel to varpd as its standard input, and the number of threads as its argument. It ends when no process
 * holds the other end of the channel: its work is done, or varpd has died in the middle of it.
 */
import { StandInThreads } from '../../datapath/userland/main/stand-in-threads.js';
import { exitNow, nameThread } from '../../dgram-extra/index.js';
import { errorText } from '../../model/errors.js';
import { complain } from '../complaint.js';
import { type FromStandIn, readOrders, READY } from './orders.js';
import { Channel } from './stand-in-channel.js';

/** Time for its threads to end, which takes a millisecond. */
const END_MS = 1000;

function fail(error: unknown): never {
  complain(`the stand-in over a restart failed: ${errorText(error)}`);
  return exitNow(1);
}

async function obey(orders: unknown): Promise<void> {
  await threads.carry(readOrders(orders).lists);
  channel.send({ kind: 'moving' });
}

nameThread('varpd-standin');
const channel = new Channel<FromStandIn, unknown>(0, (orders) => {
  obey(orders).catch(fail);
});
const threads = new StandInThreads(
  Number(process.argv[2]),
  (news) => {
    channel.send({ kind: 'leases', news });
  },
  fail,
);
channel.ended
  .then(async () => {
    setTimeout(() => exitNow(1), END_MS);
    await threads.stop();
    await channel.end();
    exitNow(0);
  })
  .catch(fail);
threads
  .started()
  .then(() => {
    channel.send(READY);
  })
  .catch(fail);
