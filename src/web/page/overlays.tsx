/** A card for each overlay: its state, and its rates of the last ten minutes. */
import { HISTORY_POINTS } from '../messages.js';
import { bitsText, framesText, rateText } from './format.js';
import type { ShownOverlay } from './state.js';

const WIDTH = HISTORY_POINTS;
const HEIGHT = 40;

type Points = readonly (number | null)[];

/** A line for each run of points that are known; the newest is at the right edge. */
function pathOf(points: Points, most: number): string {
  const from = WIDTH - points.length;
  let isOn = false;
  return points
    .map((value, index) => {
      if (value === null) {
        isOn = false;
        return '';
      }
      const command = isOn ? 'L' : 'M';
      isOn = true;
      return `${command}${from + index} ${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`;
    })
    .join('');
}

const mostOf = (...series: readonly Points[]): number =>
  Math.max(1, ...series.flat().map((value) => value ?? 0));

function Plot({
  lines,
  label,
}: {
  readonly lines: readonly (readonly [kind: string, points: Points])[];
  readonly label: string;
}) {
  const most = mostOf(...lines.map(([, points]) => points));
  return (
    <svg
      class="plot"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      <line x1={0} y1={HEIGHT - 1} x2={WIDTH} y2={HEIGHT - 1} />
      {lines.map(([kind, points]) => (
        <path key={kind} class={kind} d={pathOf(points, most)} />
      ))}
    </svg>
  );
}

const STATUS_CLASS = { ONLINE: 'good', DEGRADED: 'bad', OFFLINE: 'bad' } as const;

export function OverlayCard({ overlay }: { readonly overlay: ShownOverlay }) {
  const { name, status, details, rates, drops, lookups, ports, peers, history } = overlay;
  const mostDrops = mostOf(history.drops);
  const traffic = `${name}, ten minutes: sent now ${bitsText(rates?.txBits ?? null)}, at most ${bitsText(mostOf(history.txBits))}; received now ${bitsText(rates?.rxBits ?? null)}, at most ${bitsText(mostOf(history.rxBits))}`;
  return (
    <section class="card" aria-label={name}>
      <h3>
        {name} <span class={STATUS_CLASS[status]}>{status}</span>
      </h3>
      <p class="faint">
        {ports.length === 1 ? '1 port' : `${ports.length} ports`}
        {peers === null ? '' : peers === 1 ? ', 1 peer' : `, ${peers} peers`}
        {lookups === null ? '' : `; ${lookups.open} lookups open`}
        {lookups?.p99Ms == null ? '' : `, answered in ${lookups.p99Ms.toFixed(1)} ms (99 of 100)`}
      </p>
      {details !== null && <p>{details}</p>}
      {rates !== null && (
        <>
          <Plot
            lines={[
              ['tx', history.txBits],
              ['rx', history.rxBits],
            ]}
            label={traffic}
          />
          <p class="key">
            <span class="tx">{`sent ${bitsText(rates.txBits)}, ${framesText(rates.txFrames)}`}</span>
            <span class="rx">{`received ${bitsText(rates.rxBits)}, ${framesText(rates.rxFrames)}`}</span>
          </p>
          <Plot
            lines={[['drops', history.drops]]}
            label={`${name}: frames dropped in ten minutes, at most ${rateText(mostDrops, 'frames')}`}
          />
          <p class="key">
            <span class="drops">{`dropped ${framesText(rates.drops)}`}</span>
          </p>
        </>
      )}
      {drops.length > 0 && (
        <details>
          <summary>{`${drops.length} reasons of drops`}</summary>
          <ul>
            {drops.map(({ reason, kind, frames, perSecond, about, last }) => (
              <li key={reason}>
                <strong class={kind === 'trouble' ? 'bad' : ''}>{reason}</strong>
                {` ${frames} frames, ${framesText(perSecond)}: ${kind === 'by_design' ? 'by design: ' : ''}${about}`}
                {last === null ? '' : ` (${last})`}
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
