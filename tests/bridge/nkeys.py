#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes keys and credentials as NATS servers know them, with openssl(1): nkeys.py DIRECTORY

user.seed, user.pub  an nkey of a user
user.creds           a credentials file of the same user
operator.conf        what the configuration of a server needs to trust these credentials
"""
import base64
import json
import pathlib
import subprocess
import sys
import time

# The kinds of keys, as the first five bits of their text: a letter that says what it is.
SEED, OPERATOR, ACCOUNT, USER = 18 << 3, 14 << 3, 0, 20 << 3


def openssl(*arguments, data=None):
    return subprocess.run(['openssl', *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout


def base32(raw):
    crc = 0
    for byte in raw:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return base64.b32encode(raw + crc.to_bytes(2, 'little')).decode().rstrip('=')


def base64url(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip('=')


class Key:
    def __init__(self, directory, kind):
        self.file = directory / f'{kind}.pem'
        openssl('genpkey', '-algorithm', 'ed25519', '-out', str(self.file))
        private = openssl('pkey', '-in', str(self.file), '-outform', 'DER')[-32:]
        public = openssl('pkey', '-in', str(self.file), '-pubout', '-outform', 'DER')[-32:]
        self.public = base32(bytes([kind]) + public)
        self.seed = base32(bytes([SEED | kind >> 5, (kind & 31) << 3]) + private)

    def token(self, name, subject, claims):
        body = {'iat': int(time.time()), 'iss': self.public, 'jti': name, 'name': name, 'sub': subject,
                'nats': {'version': 2, **claims}}
        head = {'typ': 'JWT', 'alg': 'ed25519-nkey'}
        text = '.'.join(base64url(json.dumps(part).encode()) for part in (head, body))
        to_sign = self.file.with_suffix('.text')
        to_sign.write_text(text)
        sign = openssl('pkeyutl', '-sign', '-inkey', str(self.file), '-rawin', '-in', str(to_sign))
        return f'{text}.{base64url(sign)}'


directory = pathlib.Path(sys.argv[1])
operator, account, user = (Key(directory, kind) for kind in (OPERATOR, ACCOUNT, USER))
free = {'pub': {}, 'sub': {}}
no_limit = dict.fromkeys(('subs', 'data', 'payload', 'imports', 'exports', 'conn', 'leaf'), -1)
tokens = {
    'operator': operator.token('operator', operator.public, {'type': 'operator'}),
    'account': operator.token('account', account.public,
                              {'type': 'account', 'limits': {**no_limit, 'wildcards': True}, 'default_permissions': free}),
    'user': account.token('user', user.public, {'type': 'user', 'subs': -1, 'data': -1, 'payload': -1, **free}),
}
(directory / 'user.pub').write_text(user.public)
(directory / 'user.seed').write_text(user.seed)
(directory / 'operator.conf').write_text(
    f'operator: {tokens["operator"]}\n'
    f'system_account: {account.public}\nresolver: MEMORY\nresolver_preload: {{ {account.public}: {tokens["account"]} }}\n')
(directory / 'user.creds').write_text(f'''-----BEGIN NATS USER JWT-----
{tokens["user"]}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{user.seed}
------END USER NKEY SEED------
''')
