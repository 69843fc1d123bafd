// config/control.schema.json: the control protocol as JSON Schema, made of the table of methods. Parameters are those that varpd
// checks; results are the types of the table, read by the compiler of TypeScript.
import ts from 'typescript';
import * as z from 'zod';
import { METHOD_NAMES, METHODS, type Method } from '../../src/control/methods.js';
import { schemaOfParams } from '../../src/daemon/control/requests.js';
import { fromRoot } from '../helpers/need.js';

export type Schema = Readonly<Record<string, unknown>>;

/** The types of the protocol that no method returns. */
const OTHER_TYPES: readonly (readonly [file: string, name: string])[] = [
  ['src/control/messages.ts', 'ErrorData'],
  ['src/control/watch-messages.ts', 'WatchEvent'],
];
const METHODS_FILE = 'src/control/methods.ts';

/** Types of one program of TypeScript as JSON Schema. A type that has a name is a definition. */
class TypeSchemas {
  readonly definitions: Record<string, Schema> = {};
  readonly #checker: ts.TypeChecker;
  readonly #program: ts.Program;

  constructor(files: readonly string[]) {
    const options = {
      strict: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      types: [],
    };
    this.#program = ts.createProgram(files.map(fromRoot), options);
    this.#checker = this.#program.getTypeChecker();
  }

  /** The type that a file exports by this name. */
  exported(file: string, name: string): ts.Type {
    const source = this.#program.getSourceFile(fromRoot(file))!;
    const exports = this.#checker.getExportsOfModule(this.#checker.getSymbolAtLocation(source)!);
    return this.#checker.getDeclaredTypeOfSymbol(exports.find((symbol) => symbol.name === name)!);
  }

  member(type: ts.Type, name: string): ts.Type {
    return this.#checker.getTypeOfSymbol(this.#checker.getPropertyOfType(type, name)!);
  }

  schemaOf(type: ts.Type): Schema {
    if (type.isUnion()) return this.#unionOf(type);
    if (type.isStringLiteral() || type.isNumberLiteral()) return { const: type.value };
    if ((type.flags & ts.TypeFlags.BooleanLiteral) !== 0)
      return { const: this.#checker.typeToString(type) === 'true' };
    if ((type.flags & ts.TypeFlags.String) !== 0) return { type: 'string' };
    if ((type.flags & ts.TypeFlags.Number) !== 0) return { type: 'number' };
    if ((type.flags & ts.TypeFlags.Null) !== 0) return { type: 'null' };
    if (this.#checker.isTupleType(type)) {
      const items = this.#checker.getTypeArguments(type as ts.TypeReference);
      return {
        type: 'array',
        prefixItems: items.map((item) => this.schemaOf(item)),
        minItems: items.length,
        items: false,
      };
    }
    if (this.#checker.isArrayType(type)) {
      const [item] = this.#checker.getTypeArguments(type as ts.TypeReference);
      return { type: 'array', items: this.schemaOf(item) };
    }
    if ((type.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection)) !== 0) return this.#objectOf(type);
    throw new Error(`no schema for the type ${this.#checker.typeToString(type)}`);
  }

  #unionOf({ types }: ts.UnionType): Schema {
    const rest = types.filter(({ flags }) => (flags & ts.TypeFlags.Undefined) === 0);
    const isBoolean = ({ flags }: ts.Type): boolean => (flags & ts.TypeFlags.BooleanLiteral) !== 0;
    const isText = (one: ts.Type): one is ts.StringLiteralType => one.isStringLiteral();
    const texts = rest.filter(isText).map(({ value }) => value);
    const others = rest.filter((one) => !isBoolean(one) && !isText(one)).map((one) => this.schemaOf(one));
    const parts: Schema[] = [
      ...(texts.length > 1 ? [{ enum: texts }] : texts.map((value) => ({ const: value }))),
      ...(rest.filter(isBoolean).length === 2
        ? [{ type: 'boolean' }]
        : rest.filter(isBoolean).map((one) => this.schemaOf(one))),
      ...others,
    ];
    return parts.length === 1 ? parts[0] : { anyOf: parts };
  }

  #objectOf(type: ts.Type): Schema {
    const name = (type.aliasSymbol ?? type.getSymbol())?.name ?? '__type';
    const isNamed = !name.startsWith('__') && (type.isClassOrInterface() || type.aliasSymbol !== undefined);
    const hasArguments = (type.aliasTypeArguments?.length ?? 0) > 0;
    if (!isNamed || hasArguments) return this.#membersOf(type);
    if (!(name in this.definitions)) {
      this.definitions[name] = {}; // for a type that has itself in it
      this.definitions[name] = { ...described(type.symbol, this.#checker), ...this.#membersOf(type) };
    }
    return { $ref: `#/$defs/${name}` };
  }

  #membersOf(type: ts.Type): Schema {
    const index = this.#checker.getIndexTypeOfType(type, ts.IndexKind.String);
    if (index !== undefined) return { type: 'object', additionalProperties: this.schemaOf(index) };
    const members = this.#checker.getPropertiesOfType(type);
    const required = members.filter(({ flags }) => (flags & ts.SymbolFlags.Optional) === 0);
    const properties = members.map((member) => [
      member.name,
      { ...described(member, this.#checker), ...this.schemaOf(this.#checker.getTypeOfSymbol(member)) },
    ]);
    return {
      type: 'object',
      properties: Object.fromEntries(properties),
      ...(required.length > 0 && { required: required.map((member) => member.name) }),
    };
  }
}

function described(symbol: ts.Symbol | undefined, checker: ts.TypeChecker): Schema {
  const text = ts.displayPartsToString(symbol?.getDocumentationComment(checker)).replace(/\s+/g, ' ').trim();
  return text === '' ? {} : { description: text };
}

/** A request is any of `oneOf`; `$defs` has `NAME result` for the result of each method, and each type by its name. */
export function controlSchema(): Schema {
  const types = new TypeSchemas([METHODS_FILE, ...OTHER_TYPES.map(([file]) => file)]);
  const table = types.exported(METHODS_FILE, 'Methods');
  const results = METHOD_NAMES.map((name) => {
    const { streams }: Method = METHODS[name];
    const result = types.schemaOf(types.member(types.member(table, name), 'result'));
    return [
      `${name} result`,
      streams === undefined ? result : { $comment: `then: ${streams}`, ...result },
    ] as const;
  });
  const others = OTHER_TYPES.map(
    ([file, name]) => [name, types.schemaOf(types.exported(file, name))] as const,
  );
  const own = others.filter(([name]) => !(name in types.definitions));
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Control protocol of varpd',
    description:
      'A request of the control socket, one on a line (docs/control.md). Made of src/control/methods.ts by npm run docs.',
    oneOf: METHOD_NAMES.map(requestOf),
    $defs: { ...types.definitions, ...Object.fromEntries(own), ...Object.fromEntries(results) },
  };
}

function requestOf(name: (typeof METHOD_NAMES)[number]): Schema {
  const { about, params }: Method = METHODS[name];
  const schema = z.toJSONSchema(schemaOfParams(params), { io: 'input' });
  delete schema.$schema;
  const isNeeded = Object.values(params).some(({ isOptional }) => isOptional !== true);
  return {
    title: name,
    description: about,
    type: 'object',
    properties: {
      jsonrpc: { const: '2.0' },
      id: { type: ['string', 'number', 'null'] },
      method: { const: name },
      params: schema,
    },
    required: ['jsonrpc', 'method', ...(isNeeded ? ['params'] : [])],
  };
}
