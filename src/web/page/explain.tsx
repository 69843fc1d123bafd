/** Explain as a form: what varpd would do with a frame, and why. */
import { useState } from 'preact/hooks';
import type { Explanation } from '../../control/explain-messages.js';
import { failureOf } from './targets.js';

interface Answer {
  readonly explanation?: Explanation;
  readonly problem?: string;
}

/** Fields that are left empty are left to varpd. */
const FIELDS = [
  { name: 'destination', label: 'To (MAC or IP address)', example: '02:08:20:00:00:01', isNeeded: true },
  { name: 'source', label: 'From (MAC or IP address)', example: 'the port', isNeeded: false },
  { name: 'port', label: 'Port', example: 'the own one', isNeeded: false },
  { name: 'vlan', label: 'VLAN', example: 'none', isNeeded: false },
  { name: 'bytes', label: 'Bytes', example: 'the least', isNeeded: false },
] as const;
const NUMBERS: readonly string[] = ['vlan', 'bytes'];

export function Explain({ names }: { readonly names: readonly string[] }) {
  const [answer, setAnswer] = useState<Answer>({});
  const ask = (form: HTMLFormElement): void => {
    const given = [...new FormData(form)].filter((field): field is [string, string] => field[1] !== '');
    const params = Object.fromEntries(
      given.map(([name, value]) => [name, NUMBERS.includes(name) ? Number(value) : value]),
    );
    explain(params)
      .then(setAnswer)
      .catch((error: unknown) => {
        setAnswer({ problem: String(error) });
      });
  };
  const { explanation, problem } = answer;
  return (
    <section aria-labelledby="explain">
      <h2 id="explain">Explain</h2>
      <p class="faint">What would be done with a frame now, and why. Nothing is sent or changed.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          ask(event.currentTarget);
        }}
      >
        <label>
          Overlay
          <select name="name">
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        {FIELDS.map(({ name, label, example, isNeeded }) => (
          <label key={name}>
            {label}
            <input
              name={name}
              placeholder={example}
              required={isNeeded}
              inputMode={NUMBERS.includes(name) ? 'numeric' : 'text'}
            />
          </label>
        ))}
        <button type="submit">Explain</button>
      </form>
      <div role="status">
        {problem !== undefined && <p class="bad">{problem}</p>}
        {explanation !== undefined && <Told explanation={explanation} />}
      </div>
    </section>
  );
}

function Told({
  explanation: { frame, steps, outcome, sentence, drops },
}: {
  readonly explanation: Explanation;
}) {
  return (
    <>
      <p>
        <strong class={outcome === 'pass' ? 'good' : 'bad'}>{outcome}</strong>: {sentence}
      </p>
      <p class="faint">{frame}</p>
      <ol class="steps">
        {steps.map(({ step, verdict, read, rule }, index) => (
          <li key={index}>
            <strong class={verdict === 'pass' ? 'good' : 'bad'}>{`${step}: ${verdict}`}</strong> {rule}
            {read === '' ? '' : ` (${read})`}
          </li>
        ))}
      </ol>
      {drops.map(({ reason, advice }) => (
        <p key={reason}>{`${reason}: ${advice}`}</p>
      ))}
    </>
  );
}

async function explain(params: Readonly<Record<string, unknown>>): Promise<Answer> {
  const response = await fetch('/explain', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(params),
  });
  return response.ok
    ? { explanation: (await response.json()) as Explanation }
    : { problem: await failureOf(response) };
}
