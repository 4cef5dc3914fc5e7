import jsdoc from 'eslint-plugin-jsdoc';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist', '.build', 'node_modules'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'test/**/*.cts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: ['tsconfig.json', 'tsconfig.test.json'] } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { jsdoc },
    rules: {
      // Every public item says what it is.
      'jsdoc/require-jsdoc': ['error', {
        publicOnly: { cjs: false, esm: true },
        require: { ClassDeclaration: true, FunctionDeclaration: true, MethodDefinition: true },
        contexts: [
          'TSInterfaceDeclaration', 'TSTypeAliasDeclaration', 'TSPropertySignature', 'TSMethodSignature',
          'PropertyDefinition:not([accessibility="private"]):not([key.type="PrivateIdentifier"])',
          'ExportNamedDeclaration > VariableDeclaration',
        ],
        checkConstructors: false,
      }],
      'jsdoc/require-description': ['error', { contexts: ['any'] }],
    },
  },
  {
    files: ['test/**/*.ts', 'test/**/*.cts'],
    // node:test hands back promises that nobody has to wait for.
    rules: { '@typescript-eslint/no-floating-promises': 'off' },
  },
  {
    files: ['test/**/*.cts'],
    // That is what they test.
    rules: { '@typescript-eslint/no-require-imports': 'off' },
  },
);
