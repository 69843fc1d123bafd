// The tests that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/order.test.js');
await import('../property/core.test.js');
await import('../property/programs.test.js');
