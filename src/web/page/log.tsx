/** The last lines of varpd's log. */
import { useState } from 'preact/hooks';
import type { LogLine } from '../messages.js';
import { LEVELS, linesOf } from './state.js';

const CLASS = { error: 'bad', warn: 'note', info: '', debug: 'faint' } as const;
const CHOICES = {
  error: 'errors',
  warn: 'warnings, and errors',
  info: 'all but debug',
  debug: 'all',
} as const;

export function Log({ log }: { readonly log: readonly LogLine[] | null }) {
  const [level, setLevel] = useState<LogLine['level']>('debug');
  const lines = linesOf(log ?? [], level);
  return (
    <section aria-labelledby="log">
      <h2 id="log">Log</h2>
      {log === null ? (
        <p class="faint">
          The log may quote files and data of users, and every user of this host may open this page. It is
          shown where the page has a token (webToken), or is a Unix socket.
        </p>
      ) : (
        <>
          <label>
            Level{' '}
            <select
              value={level}
              onChange={({ currentTarget }) => {
                setLevel(LEVELS.find((one) => one === currentTarget.value) ?? 'debug');
              }}
            >
              {LEVELS.map((one) => (
                <option key={one} value={one}>
                  {CHOICES[one]}
                </option>
              ))}
            </select>
          </label>
          {lines.length === 0 ? (
            <p class="faint">None since varpd has started.</p>
          ) : (
            <ol class="log" tabIndex={0} aria-label="Lines of the log, the newest first">
              {lines.map(({ at, level: shown, message }, index) => (
                <li key={lines.length - index}>
                  <time dateTime={at}>{new Date(at).toLocaleTimeString()}</time>{' '}
                  <strong class={CLASS[shown]}>{shown}</strong> {message}
                </li>
              ))}
            </ol>
          )}
        </>
      )}
    </section>
  );
}
