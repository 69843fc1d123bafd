// The tests that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/offload.test.js');
await import('../netns/openvswitch.test.js');
await import('../netns/order.test.js');
await import('../netns/path-width.test.js');
await import('../netns/tunnels.test.js');
await import('../property/core-tables.test.js');
await import('../property/core.test.js');
await import('../property/files.test.js');
await import('../property/offload-apart.test.js');
await import('../property/offload-cut.test.js');
await import('../property/offload-join.test.js');
await import('../property/programs.test.js');
await import('../property/proxy.test.js');
await import('../property/wire.test.js');
