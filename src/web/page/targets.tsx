/** The target table of one overlay, with a search. Only the rows in sight are in the document. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Table, TargetsNews } from '../messages.js';
import { ageText } from './format.js';
import { withNews } from './state.js';

const ROW_PIXELS = 28;
/** Rows in the document beyond those in sight. */
const MORE_ROWS = 10;
const SEEN_ROWS = 16;
/** After the last key. */
const SEARCH_MS = 300;

export function Targets({
  names,
  overlay,
  choose,
  news,
}: {
  readonly names: readonly string[];
  readonly overlay: string;
  readonly choose: (name: string) => void;
  /** The last change; another object for each. */
  readonly news: TargetsNews | undefined;
}) {
  const [text, setText] = useState('');
  const [found, setTable] = useState<Table>();
  const [problem, setProblem] = useState('');
  const [top, setTop] = useState(0);
  const [reading, setReading] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const table = found?.overlay === overlay ? found : undefined;
  // The thread searches a table that is too large for the page.
  const asked = table?.isCut === true || (table === undefined && text !== '') ? text : '';

  useEffect(() => {
    if (overlay === '') return undefined;
    const stop = new AbortController();
    const timer = setTimeout(
      () => {
        read(overlay, asked, stop.signal)
          .then((now) => {
            setTable(now);
            setProblem('');
          })
          .catch((error: unknown) => {
            if (!stop.signal.aborted) setProblem(error instanceof Error ? error.message : String(error));
          });
      },
      asked === '' ? 0 : SEARCH_MS,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [overlay, asked, reading]);

  useEffect(() => {
    if (news?.overlay !== overlay) return;
    const { rows } = news;
    // A reading that is under way may have been before the change.
    if (rows === null || table === undefined || table.isCut) setReading((count) => count + 1);
    else setTable({ ...table, rows: withNews(table.rows, rows) });
  }, [news]);

  const shown = useMemo(() => {
    const wanted = text.toLowerCase();
    const rows = table?.rows ?? [];
    return wanted === '' ? rows : rows.filter((row) => row.join(' ').includes(wanted));
  }, [table, text]);
  const first = Math.max(0, Math.min(Math.floor(top / ROW_PIXELS) - MORE_ROWS, shown.length - SEEN_ROWS));
  const last = Math.min(shown.length, first + SEEN_ROWS + 2 * MORE_ROWS);
  const count = `${shown.length}${table?.isCut === true ? ' or more' : ''} ${shown.length === 1 ? 'target' : 'targets'}`;
  return (
    <section aria-labelledby="targets">
      <h2 id="targets">Targets</h2>
      <form
        onSubmit={(event) => {
          event.preventDefault();
        }}
      >
        <label>
          Overlay
          <select
            value={overlay}
            onChange={(event) => {
              choose(event.currentTarget.value);
            }}
          >
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Search
          <input
            type="search"
            value={text}
            placeholder="MAC, address, state"
            onInput={(event) => {
              setText(event.currentTarget.value);
              setTop(0);
              if (box.current) box.current.scrollTop = 0;
            }}
          />
        </label>
        <span role="status">{problem === '' ? count : problem}</span>
      </form>
      <div
        class="rows"
        ref={box}
        tabIndex={0}
        role="region"
        aria-label="rows of the target table"
        onScroll={(event) => {
          setTop(event.currentTarget.scrollTop);
        }}
      >
        <table aria-rowcount={shown.length + 1}>
          <thead>
            <tr aria-rowindex={1}>
              <th scope="col">MAC</th>
              <th scope="col">state</th>
              <th scope="col">destination</th>
              <th scope="col">by</th>
              <th scope="col">age</th>
            </tr>
          </thead>
          <tbody>
            {first > 0 && <Gap rows={first} />}
            {shown.slice(first, last).map(([mac, state, to, origin, age], index) => (
              <tr key={mac} aria-rowindex={first + index + 2}>
                <td>{mac}</td>
                <td>{state}</td>
                <td>{to}</td>
                <td>{origin ?? '--'}</td>
                <td>{ageText(age)}</td>
              </tr>
            ))}
            {last < shown.length && <Gap rows={shown.length - last} />}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Gap({ rows }: { readonly rows: number }) {
  return (
    <tr aria-hidden="true">
      <td colSpan={5} style={{ height: `${rows * ROW_PIXELS}px` }} />
    </tr>
  );
}

async function read(overlay: string, text: string, signal: AbortSignal): Promise<Table> {
  const query = new URLSearchParams({ overlay, text });
  const response = await fetch(`/targets?${query.toString()}`, { signal });
  if (response.ok) return (await response.json()) as Table;
  throw new Error(await failureOf(response));
}

/** The sentence of an answer that is an error. */
export async function failureOf(response: Response): Promise<string> {
  const text = await response.text();
  try {
    return (JSON.parse(text) as { message: string }).message;
  } catch {
    return text;
  }
}
