// npm run sim [-- --help]
//
// What a site of thousands of hosts asks of its store, and how long its hosts are wrong about a MAC that has moved. The hosts are
// simulated in memory: site.ts and host.ts say what is real, store.ts and client.ts what is a model. With --measure, tens of
// real varpds on this machine instead.
import { writeResults } from '../bench/results.js';
import { answer, type Answered } from './answers.js';
import { measureGrowth } from './measure.js';
import { readSettings, type Settings } from './settings.js';
import { storeFor } from './store.js';

async function simulate(settings: Settings): Promise<void> {
  const { hosts, macs, seed, only } = settings;
  const all: Answered[] = [];
  for (const question of only) {
    const startedMs = Date.now();
    const answered = await answer(question, { hosts, macs, seed });
    all.push(answered);
    const seconds = ((Date.now() - startedMs) / 1000).toFixed(0);
    console.log(`\n${answered.title} (${seconds} s)\n\n${answered.text}`);
  }
  const md = all.map(({ title, text }) => `${title}\n\n\`\`\`\n${text}\n\`\`\``).join('\n\n');
  const rows = all.flatMap(({ question, rows }) => rows.map((row) => ({ question, ...row })));
  await writeResults('sim', { json: { hosts, macs, seed, store: storeFor(hosts), rows }, md });
}

const settings = readSettings(process.argv.slice(2));
if (!settings.measures) await simulate(settings);
else if (!(await measureGrowth())) process.exitCode = 1;
