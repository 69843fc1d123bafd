/** The live page. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { PageEvents, TargetsNews } from '../messages.js';
import { Explain } from './explain.js';
import { OverlayCard } from './overlays.js';
import { Log } from './log.js';
import { NOTHING, troublesOf, withSnapshot, withUpdate } from './state.js';
import { Targets } from './targets.js';
import { PeerTable, Topology } from './topology.js';

const RETRY_MS = 2_000;

/** Calls for each event. Returns a function that ends it. */
function listen(
  overlay: string,
  heard: { readonly [E in keyof PageEvents]: (data: PageEvents[E]) => void },
  lost: () => void,
): () => void {
  let source: EventSource | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  const open = (): void => {
    source = new EventSource(`/events?${new URLSearchParams({ overlay }).toString()}`);
    for (const [name, hear] of Object.entries(heard) as [keyof PageEvents, (data: unknown) => void][])
      source.addEventListener(name, ({ data }: MessageEvent<string>) => {
        hear(JSON.parse(data));
      });
    source.addEventListener('error', () => {
      // A browser gives up after an answer that is an error, as while varpd restarts.
      source?.close();
      lost();
      retry = setTimeout(open, RETRY_MS);
    });
  };
  const close = (): void => {
    clearTimeout(retry);
    source?.close();
  };
  // A page in the background costs varpd nothing.
  const look = (): void => {
    close();
    if (!document.hidden) open();
  };
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    document.removeEventListener('visibilitychange', look);
    close();
  };
}

function Page() {
  const [state, setState] = useState(NOTHING);
  const [news, setNews] = useState<TargetsNews>();
  const [chosen, choose] = useState('');
  const names = [...state.overlays.keys()].sort();
  const overlay = names.includes(chosen) ? chosen : (names.at(0) ?? '');
  useEffect(
    () =>
      listen(
        overlay,
        {
          snapshot: (data) => {
            setState(withSnapshot(data));
            // Changes of meanwhile are not known.
            setNews({ overlay, rows: null });
          },
          update: (data) => {
            setState((before) => withUpdate(before, data));
          },
          peers: (peers) => {
            setState((before) => ({ ...before, peers }));
          },
          targets: setNews,
        },
        () => {
          setState((before) => ({ ...before, isLost: true }));
        },
      ),
    [overlay],
  );
  const { about, peers } = state;
  const troubles = troublesOf(state);
  const overlays = names.map((name) => state.overlays.get(name)!);
  useEffect(() => {
    document.title = `${troubles.length > 0 ? `(${troubles.length}) ` : ''}varpd on ${about?.host ?? '...'}`;
  });
  return (
    <>
      <a class="skip" href="#trouble">
        Skip to the troubles
      </a>
      <header>
        <h1>{`varpd on ${about?.host ?? '...'}`}</h1>
        {about?.version != null && (
          <span class="faint">{`version ${about.version}, process ${about.pid}, since ${new Date(about.startedAt ?? '').toLocaleString()}`}</span>
        )}
      </header>
      <main>
        <section aria-labelledby="trouble">
          <h2 id="trouble" tabIndex={-1}>
            Trouble
          </h2>
          <div aria-live="polite">
            {troubles.length === 0 ? (
              <p class="good">{about === undefined ? 'Not known yet.' : 'None.'}</p>
            ) : (
              <ul class="trouble">
                {troubles.map(({ key, text, isNote }) => (
                  <li key={key} class={isNote ? 'note' : ''}>
                    {text}
                  </li>
                ))}
              </ul>
            )}
          </div>
        </section>
        <section aria-labelledby="network">
          <h2 id="network">Network</h2>
          <Topology host={about?.host ?? 'this host'} overlays={overlays} peers={peers} />
          <PeerTable peers={peers} />
        </section>
        <section aria-labelledby="overlays">
          <h2 id="overlays">Overlays, the last ten minutes</h2>
          <div class="cards">
            {overlays.map((one) => (
              <OverlayCard key={one.name} overlay={one} />
            ))}
          </div>
        </section>
        <Targets names={names} overlay={overlay} choose={choose} news={news} />
        <Explain names={names} />
        <Log log={state.log} />
      </main>
    </>
  );
}

render(<Page />, document.getElementById('page')!);
