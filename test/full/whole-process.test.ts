// The tests of varpd as a process that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/faults.test.js');
await import('../netns/later-version.test.js');
await import('../netns/restart.test.js');
await import('../netns/secrets.test.js');
await import('../netns/user.test.js');
