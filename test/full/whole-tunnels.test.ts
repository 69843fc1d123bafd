// The tests of tunnels that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/offload.test.js');
await import('../netns/openvswitch.test.js');
await import('../netns/order.test.js');
await import('../netns/path-width.test.js');
await import('../netns/tunnels.test.js');
