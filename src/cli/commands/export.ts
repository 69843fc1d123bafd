/** export: writes what is stored of overlays as one document, which apply takes. */
import { defineCommand, UsageError } from '../command.js';
import { documentOf, yamlOf } from '../declare/document.js';
import { formatJson, readList } from '../show.js';

export const command = defineCommand({
  synopsis: 'export [--yaml | --json] [overlay...]',
  about:
    'Writes overlays, those named or all, with their VNICs and link properties as one document, which apply takes. ' +
    'It has no secrets, since varpd keeps only their names, and nothing that is temporary.',
  options: [
    { name: 'yaml', about: 'as YAML; so it is without an option' },
    { name: 'json', about: 'as JSON' },
  ],
  examples: ['export > overlays.yaml', 'export --json overlay0'],

  async run(args, context) {
    if (args.has('yaml') && args.has('json'))
      throw new UsageError('--yaml and --json may not be used together');
    const params = args.operands.length > 0 ? { names: [...args.operands] } : {};
    const pages = await readList('failed to read overlays', 'overlay.export', params, context);
    // apply --prune deletes what a document lacks.
    if (pages.some(({ missing }) => missing.length > 0)) return;
    const document = documentOf(pages.flatMap(({ overlays }) => overlays));
    context.print(args.has('json') ? formatJson(document) : yamlOf(document));
  },
});
