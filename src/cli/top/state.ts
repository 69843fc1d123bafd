/**
 * The choices of the user of `dladm top`, and the keys that change them: pure functions, so that every key can be
 * tested without a terminal.
 */
import { type Sample, type TopColumn, type TopRow, type Unit, type View, VIEWS } from './views.js';

export interface State {
  /** Index into VIEWS. */
  readonly view: number;
  /** Key of the column, for each view. */
  readonly sorts: readonly { readonly key: string; readonly isReversed: boolean }[];
  /** Key of the selected row; null = the first one, whichever it is. */
  readonly selected: string | null;
  /** Only rows of this overlay. */
  readonly only: string | null;
  readonly unit: Unit;
  readonly intervalSeconds: number;
  readonly isPaused: boolean;
  readonly isHelp: boolean;
  readonly isOver: boolean;
}

/** The part of the screen that keys depend on. */
export interface Shown {
  readonly rows: readonly TopRow[];
  /** Rows on one screen. */
  readonly pageRows: number;
}

/** Steps of + and -. */
const INTERVALS = [0.5, 1, 2, 5, 10, 30, 60, 300];

interface Binding {
  /** Names of keys.ts: a character is its own name. */
  readonly keys: readonly string[];
  /** The keys in the help and the documentation. */
  readonly shown: string;
  readonly about: string;
  press(state: State, shown: Shown): State;
}

export const BINDINGS: readonly Binding[] = [
  {
    keys: ['q', 'Q', 'ctrl-c'],
    shown: 'q, Ctrl-C',
    about: 'quit',
    press: (state) => ({ ...state, isOver: true }),
  },
  {
    keys: ['h', '?', 'f1'],
    shown: 'h, ?',
    about: 'this help; any key ends it',
    press: (state) => ({ ...state, isHelp: true }),
  },
  {
    keys: ['tab', 'right'],
    shown: 'Tab, right',
    about: 'next view',
    press: (state) => toView(state, (state.view + 1) % VIEWS.length),
  },
  {
    keys: ['shift-tab', 'left'],
    shown: 'Shift-Tab',
    about: 'previous view',
    press: (state) => toView(state, (state.view + VIEWS.length - 1) % VIEWS.length),
  },
  ...VIEWS.map(({ name }, index): Binding => ({
    keys: [`${index + 1}`],
    shown: `${index + 1}`,
    about: name,
    press: (state) => toView(state, index),
  })),
  {
    keys: ['>', '.', 's'],
    shown: '>, s',
    about: 'sort by the next column',
    press: (state) => sortBeside(state, 1),
  },
  {
    keys: ['<', ',', 'S'],
    shown: '<, S',
    about: 'sort by the column before',
    press: (state) => sortBeside(state, -1),
  },
  {
    keys: ['r', 'R'],
    shown: 'r',
    about: 'the other way round',
    press: (state) => withSort(state, { ...sortOf(state), isReversed: !sortOf(state).isReversed }),
  },
  { keys: ['down', 'j'], shown: 'down, j', about: 'select the next row', press: (...all) => move(...all, 1) },
  { keys: ['up', 'k'], shown: 'up, k', about: 'select the row above', press: (...all) => move(...all, -1) },
  {
    keys: ['pagedown', 'ctrl-f'],
    shown: 'PgDn',
    about: 'a screen further',
    press: (state, shown) => move(state, shown, shown.pageRows),
  },
  {
    keys: ['pageup', 'ctrl-b'],
    shown: 'PgUp',
    about: 'a screen back',
    press: (state, shown) => move(state, shown, -shown.pageRows),
  },
  {
    keys: ['home', 'g'],
    shown: 'Home, g',
    about: 'the first row',
    press: (state) => ({ ...state, selected: null }),
  },
  {
    keys: ['end', 'G'],
    shown: 'End, G',
    about: 'the last row',
    press: (state, shown) => move(state, shown, shown.rows.length),
  },
  {
    keys: ['return', 'enter'],
    shown: 'Enter',
    about: 'ports of the overlay',
    press: (state, shown) => intoOverlay(state, shown),
  },
  {
    keys: ['escape', 'backspace'],
    shown: 'Esc',
    about: 'back to all overlays',
    press: (state) =>
      state.only === null
        ? { ...state, selected: null }
        : { ...toView(state, 0), only: null, selected: state.only },
  },
  {
    keys: ['p', 'P', 'space'],
    shown: 'p, Space',
    about: 'pause, and go on',
    press: (state) => ({ ...state, isPaused: !state.isPaused }),
  },
  {
    keys: ['+', '='],
    shown: '+',
    about: 'a longer interval',
    press: (state) => ({
      ...state,
      intervalSeconds: INTERVALS.find((step) => step > state.intervalSeconds) ?? state.intervalSeconds,
    }),
  },
  {
    keys: ['-', '_'],
    shown: '-',
    about: 'a shorter interval',
    press: (state) => ({
      ...state,
      intervalSeconds: INTERVALS.findLast((step) => step < state.intervalSeconds) ?? state.intervalSeconds,
    }),
  },
  {
    keys: ['u', 'U'],
    shown: 'u',
    about: 'bits or bytes',
    press: (state) => ({ ...state, unit: state.unit === 'bits' ? 'bytes' : 'bits' }),
  },
];

const BY_KEY = new Map(BINDINGS.flatMap((binding) => binding.keys.map((key) => [key, binding] as const)));

export function initialState(intervalSeconds: number): State {
  return {
    view: 0,
    sorts: VIEWS.map(({ sort }) => ({ key: sort, isReversed: false })),
    selected: null,
    only: null,
    unit: 'bits',
    intervalSeconds,
    isPaused: false,
    isHelp: false,
    isOver: false,
  };
}

/** A key without a meaning changes nothing. */
export function press(state: State, key: string, shown: Shown): State {
  const binding = BY_KEY.get(key);
  if (state.isHelp && binding !== BY_KEY.get('q')) return { ...state, isHelp: false };
  if (binding !== undefined) return binding.press(state, shown);
  return viewOf(state).columns.some((column) => column.key === key) ? sortBy(state, key) : state;
}

export function viewOf({ view }: State): View {
  return VIEWS[view];
}

export function sortOf(state: State): State['sorts'][number] {
  return state.sorts[state.view];
}

export function toView(state: State, view: number): State {
  return { ...state, view, selected: null };
}

export function sortBy(state: State, key: string): State {
  return withSort(state, { key, isReversed: false });
}

/** The columns of a view on a screen, were it wide enough. */
export function columnsOf(state: State): readonly TopColumn[] {
  return viewOf(state).columns.filter(
    ({ rank, unit = state.unit }) => rank !== undefined && unit === state.unit,
  );
}

/** Text from A to Z, numbers from the largest on; rows without a value come last. */
export function rowsOf(state: State, sample: Sample): readonly TopRow[] {
  const { key, isReversed } = sortOf(state);
  const column = columnsOf(state).find((each) => each.key === key);
  const rows = viewOf(state)
    .rows(sample)
    .filter(({ overlay }) => state.only === null || overlay === state.only);
  return column === undefined ? rows : rows.sort(comparator(column.name, isReversed));
}

const NAMES = new Intl.Collator('en', { numeric: true });

function comparator(name: string, isReversed: boolean): (a: TopRow, b: TopRow) => number {
  const direction = isReversed ? -1 : 1;
  return (a, b) => {
    if (a.isLast !== b.isLast) return a.isLast ? 1 : -1;
    const [one, other] = [a.cells[name] ?? null, b.cells[name] ?? null];
    if (one === null || other === null) return Number(one === null) - Number(other === null);
    if (typeof one === 'number' && typeof other === 'number') return (other - one) * direction;
    return NAMES.compare(String(one), String(other)) * direction;
  };
}

/** Index of the selected row. */
export function placeOf({ selected }: State, rows: readonly TopRow[]): number {
  return Math.max(
    0,
    rows.findIndex(({ key }) => key === selected),
  );
}

function withSort(state: State, sort: State['sorts'][number]): State {
  return { ...state, sorts: state.sorts.with(state.view, sort), selected: null };
}

function sortBeside(state: State, step: number): State {
  const keys = columnsOf(state).flatMap(({ key }) => key ?? []);
  return sortBy(state, keys.at((keys.indexOf(sortOf(state).key) + step) % keys.length)!);
}

function move(state: State, { rows }: Shown, by: number): State {
  const place = Math.min(rows.length - 1, Math.max(0, placeOf(state, rows) + by));
  return { ...state, selected: place <= 0 ? null : rows[place].key };
}

function intoOverlay(state: State, { rows }: Shown): State {
  const row = rows.at(placeOf(state, rows));
  if (row === undefined) return state;
  return {
    ...toView(
      state,
      VIEWS.findIndex(({ name }) => name === 'ports'),
    ),
    only: row.overlay,
  };
}
