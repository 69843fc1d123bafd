// The tests of laws that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../property/core.test.js');
await import('../property/core-tables.test.js');
await import('../property/files.test.js');
await import('../property/offload-apart.test.js');
await import('../property/offload-cut.test.js');
await import('../property/offload-join.test.js');
await import('../property/programs.test.js');
await import('../property/proxy.test.js');
await import('../property/wire.test.js');
