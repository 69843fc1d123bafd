// npm run bench [-- --help]
//
// Two hosts in network namespaces, joined in several ways, and measured. Everything measured goes to bench-results/.
import { skipUnlessNetns } from '../helpers/need.js';
import { measureAgainst } from './against.js';
import { compare, listSubjects } from './compare.js';
import { measureCost } from './cost.js';
import { measureFiles } from './files.js';
import { growth } from './growth.js';
import { measureHostile } from './hostile.js';
import { measureLookups } from './lookups.js';
import { measureMapping } from './mapping.js';
import { profile } from './profile.js';
import { barChart } from './report/chart.js';
import { type Evidence, floorsMarkdown, floorsTable } from './report/floors.js';
import { markdownTable } from './report/markdown.js';
import { writeResults } from './results.js';
import { readSettings, type Settings } from './settings.js';
import { takeShare } from './share.js';
import { OURS, subjects } from './subjects/index.js';
import { verify } from './verify.js';
import { measureWires } from './wires.js';

/** The daemons' time is looked at for so long each way. */
const PROFILE_SECONDS = 5;

async function profiled(settings: Settings): Promise<boolean> {
  const report = await profile({ ...settings, seconds: PROFILE_SECONDS });
  await writeResults('profile', { json: report, md: `\`\`\`\n${report.text}\n\`\`\`` });
  return true;
}

async function grown(settings: Settings): Promise<boolean> {
  const { text, growth: figures } = await growth(settings);
  await writeResults('targets', { json: { growth: figures }, md: `\`\`\`\n${text}\n\`\`\`` });
  return true;
}

/** What fails then is said, and costs nothing that was measured before it. */
async function attempt<T>(what: string, failures: string[], measuring: Promise<T>): Promise<T | undefined> {
  try {
    return await measuring;
  } catch (error) {
    failures.push(`${what}: ${(error as Error).message}`);
    console.error(failures.at(-1));
    return undefined;
  }
}

/** The subjects; and all the rest, when they were not chosen by name. False when one could not be measured. */
async function measured(settings: Settings): Promise<boolean> {
  const { rounds, seconds, mtuBytes, properties, mode } = settings;
  const { samples, failures } = await compare(settings, takeShare());
  if (samples.length === 0) return false;
  let evidence: Evidence = { samples };
  const more = [];
  if (mode === 'all') {
    const seen = await attempt('profile', failures, profile({ ...settings, seconds: PROFILE_SECONDS }));
    const grown = await attempt('targets', failures, growth(settings));
    evidence = {
      samples,
      javaScriptShare: seen?.javaScriptShare,
      growthWithTargets: grown?.growth[0].ratio,
    };
    for (const report of [seen, grown]) if (report !== undefined) more.push(report.text);
    console.log(`\n${floorsTable(evidence)}`);
  }
  const { javaScriptShare, growthWithTargets } = evidence;
  const tables = [
    markdownTable(samples, OURS),
    ...(mode === 'all' ? [floorsMarkdown(evidence)] : []),
    ...more.map((text) => `\`\`\`\n${text}\n\`\`\``),
  ];
  await writeResults('', {
    json: { rounds, seconds, mtuBytes, properties, javaScriptShare, growthWithTargets, failures, samples },
    svg: barChart(samples, OURS, `median of ${rounds} rounds, underlay MTU ${mtuBytes}`),
    md: tables.join('\n\n'),
  });
  return failures.length === 0;
}

async function main(settings: Settings): Promise<boolean> {
  const { mode } = settings;
  if (mode === 'peers') {
    listSubjects(subjects.filter((subject) => subject.missing() === false));
    return true;
  }
  if (mode === 'verify') return verify();
  if (mode === 'against') return measureAgainst(settings, takeShare());
  if (mode === 'wires') return measureWires(settings, takeShare());
  if (mode === 'mapping') return measureMapping(settings.mappingEntries);
  if (mode === 'files') return measureFiles(settings);
  if (mode === 'all' || mode === 'subjects') return measured(settings);
  takeShare();
  if (mode === 'plugins') return measureLookups(settings.rounds, settings.seconds);
  if (mode === 'cost') return measureCost(settings);
  if (mode === 'hostile') return measureHostile(settings.seconds);
  return mode === 'profile' ? profiled(settings) : grown(settings);
}

const settings = readSettings(process.argv.slice(2));
const missing = skipUnlessNetns(settings.mode === 'wires' ? ['iperf3', 'ethtool', 'nft'] : ['iperf3']);
if (missing !== false) {
  console.error(`the bench ${missing}`);
  process.exit(1);
}
process.exitCode = (await main(settings)) ? 0 : 1;
