// ICMP about the tunnel that nobody sent for a reason.
import { encapsulated, filler, udpFrame } from '../../helpers/frames.js';
import { type Namespace, UNDERLAY_DEVICE } from '../../helpers/netns.js';
import { icmpError } from '../../helpers/too-big.js';
import { transferTcp } from '../../helpers/traffic.js';
import { pacedFrames } from '../../helpers/zlan.js';
import { answersNow, check, type Row, tunnel } from '../row.js';

const VNETID = 42;
const ROUNDS = 3;
const TRANSFER_BYTES = 60 << 20;
/** The best of a few rounds beside a flood, to the best beside one that is about ports of nobody. The figure that is wanted is
 * 0.9 and stands in the report; a machine that is busy must not fail the row. */
const LEAST_SHARE = 0.5;

/** 10,000 a second, until stopped. Resolves once all are sent. */
function flood(from: Namespace, frames: readonly Uint8Array[]): () => Promise<void> {
  let isOn = true;
  const endless = function* (): Generator<Uint8Array> {
    while (isOn) yield* frames;
  };
  const sent = pacedFrames(from, UNDERLAY_DEVICE, endless());
  return () => {
    isOn = false;
    return sent;
  };
}

const icmp: Row = {
  name: 'H4',
  fault: 'a flood of ICMP about the size of the path, from a stranger, beside TCP',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    const destinationMac = await a.macOf(UNDERLAY_DEVICE);
    const listing = await a.exec('ss -Hunl');
    const ports = [...listing.matchAll(/:(\d+)\s/g)]
      .map((match) => Number(match[1]))
      .filter((port) => port >= 49152);
    const quoted = encapsulated(VNETID, udpFrame({ payload: filler(1380) })).subarray(0, 64);
    const messages = (of: readonly number[], mtuBytes: number): Uint8Array[] =>
      of.map((sourcePort) =>
        icmpError({
          ...{ destinationMac, router: '10.88.88.99', from: a.underlay.v4, to: b.underlay.v4 },
          ...{ sourcePort, mtuBytes, quoted },
        }),
      );
    const floods = {
      nobody: messages(
        ports.map((port) => port - 40_000),
        68,
      ),
      varpd: messages(ports, 68),
    };
    const best = { nobody: 0, varpd: 0 };
    const grown = await daemon.counted(async () => {
      for (let round = 0; round < ROUNDS; round++) {
        for (const at of ['nobody', 'varpd'] as const) {
          const stop = flood(b, floods[at]);
          const { exact, bytesSent, seconds } = await transferTcp(a, b, { bytes: TRANSFER_BYTES });
          await stop();
          check(exact, 'every byte arrives');
          best[at] = Math.max(best[at], (bytesSent * 8) / seconds / 1e9);
        }
      }
    }, 'overlay0');
    const { path_mtu_too_small: heard, path_mtu_learned: learned = 0, tx_path_mtu: dropped = 0 } = grown;
    check(heard > 0, 'varpd hears of it');
    check(learned === 0 && dropped === 0, `nothing of it is obeyed: ${learned} learned, ${dropped} dropped`);
    const share = best.varpd / best.nobody;
    check(
      share > LEAST_SHARE,
      `TCP goes on: ${share.toFixed(2)} of what it is beside a flood that is not for varpd`,
    );
    await answersNow(a, b.overlay.v4);
    const rates = `${best.varpd.toFixed(2)} Gbit/s, ${best.nobody.toFixed(2)} beside one about ports of nobody`;
    return `${rates}; ${heard} messages were read`;
  },
};

export const icmpRows: readonly Row[] = [icmp];
